//! A classifier compiled for inference.

use super::{ClassifyError, Description};
use crate::gpu::DeviceProfile;
use crate::graph::{
    Executor, Graph, GraphError, Parameters, Program, ProgramOptions, remove_dead_nodes,
};
use crate::models::ModelError;
use crate::nn::Mode;
use crate::ops::ValueId;
use crate::ops::layout::convert;
use crate::tensor::Element;

/// A network for batches of a fixed number of images.
#[derive(Debug)]
pub(super) struct Predictor {
    executor: Executor,
    image: ValueId,
    batch: usize,
    len: usize,
    classes: usize,
}

/// The part of a graph that inference needs: the main head alone.
fn inference_program(
    description: &Description,
    batch: usize,
    device: &DeviceProfile,
) -> Result<(Program, ValueId), ClassifyError> {
    let mut graph = Graph::new();
    let shape = description.batch(batch);
    let image = graph.input("image", shape)?;
    let heads = description
        .network()?
        .build(&mut graph, image, Mode::Inference)?;
    let logits = convert(&mut graph, heads.logits[0], Element::F32);
    let logits = logits.map_err(|e| ModelError::from(graph.blame(e)))?;
    remove_dead_nodes(&mut graph, &[logits]);
    let program = Program::compile(graph, &[logits], device, ProgramOptions::default())?;
    Ok((program, image))
}

impl Predictor {
    /// The network of `description` with the weights of `parameters`, which training may go on changing.
    pub fn new(
        description: &Description,
        batch: usize,
        parameters: &mut Parameters,
    ) -> Result<Self, ClassifyError> {
        let gpu = parameters.gpu().clone();
        let (program, image) = inference_program(description, batch, gpu.profile())?;
        Ok(Self {
            executor: Executor::new(program, parameters)?,
            image,
            batch,
            len: description.preparation.len(),
            classes: description.classes.len(),
        })
    }

    /// Bytes of device memory that [`Predictor::new`] takes beside the parameters.
    pub fn planned_bytes(
        description: &Description,
        batch: usize,
        device: &DeviceProfile,
    ) -> Result<u64, ClassifyError> {
        let sums = inference_program(description, batch, device)?.0.summary();
        Ok(sums.slot_bytes + sums.input_bytes)
    }

    /// Images that are classified at once.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The logits of some images, one after another in `pixels` (n, C, 1, H, W), at most [`Predictor::batch`] of them.
    pub async fn logits(&self, mut pixels: Vec<f32>) -> Result<Vec<Vec<f32>>, GraphError> {
        let images = pixels.len() / self.len;
        // What is left of the batch is black, and nobody looks at it.
        pixels.resize(self.batch * self.len, 0.0);
        self.executor.run(&[(self.image, &pixels)]).await?;
        let outputs = self.executor.fetch().await?.unwrap_or_default();
        let logits = outputs.first().map_or(&[][..], |o| o.data.as_slice());
        let each = logits.chunks_exact(self.classes).take(images);
        Ok(each.map(<[f32]>::to_vec).collect())
    }
}
