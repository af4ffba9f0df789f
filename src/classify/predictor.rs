//! A classifier compiled for inference.

use crate::gpu::DeviceProfile;
use crate::graph::{Executor, GraphError, Parameters};
use crate::infer::inference_program;
use crate::models::{ModelError, Network};
use crate::ops::ValueId;
use crate::tensor::Shape;

/// A network for batches of a fixed number of images.
#[derive(Debug)]
pub(super) struct Predictor {
    executor: Executor,
    image: ValueId,
    batch: Shape,
    classes: usize,
}

impl Predictor {
    /// `network` for batches (N, C, 1, H, W) with the weights of `parameters`, which training may go on changing.
    ///
    /// # Errors
    /// [`ModelError`] where the network does not take such images, or the device is too small.
    pub fn new(
        network: &Network,
        batch: Shape,
        parameters: &mut Parameters,
    ) -> Result<Self, ModelError> {
        let gpu = parameters.gpu().clone();
        let (program, image) = inference_program(network, batch, gpu.profile())?;
        Ok(Self {
            executor: Executor::new(program, parameters)?,
            image,
            batch,
            classes: network.out_channels(),
        })
    }

    /// Bytes of device memory that [`Predictor::new`] takes beside the parameters.
    ///
    /// # Errors
    /// As [`Predictor::new`].
    pub fn planned_bytes(
        network: &Network,
        batch: Shape,
        device: &DeviceProfile,
    ) -> Result<u64, ModelError> {
        let sums = inference_program(network, batch, device)?.0.summary();
        Ok(sums.slot_bytes + sums.input_bytes)
    }

    /// Images that are classified at once.
    pub fn batch(&self) -> usize {
        self.batch.n()
    }

    /// The logits of some images, one after another in `pixels` (n, C, 1, H, W), at most [`Predictor::batch`] of them.
    pub async fn logits(&self, mut pixels: Vec<f32>) -> Result<Vec<Vec<f32>>, GraphError> {
        let images = pixels.len() / self.batch.per_sample();
        if images == 0 {
            return Ok(Vec::new());
        }
        // What is left of the batch is black, and nobody looks at it.
        pixels.resize(self.batch.len(), 0.0);
        self.executor.run(&[(self.image, &pixels)]).await?;
        let outputs = self.executor.fetch().await?.unwrap_or_default();
        let logits = outputs.first().map_or(&[][..], |o| o.data.as_slice());
        let each = logits.chunks_exact(self.classes).take(images);
        Ok(each.map(<[f32]>::to_vec).collect())
    }
}
