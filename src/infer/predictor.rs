//! Sliding-window inference over one volume.

use super::sums::{Inner, Slice, Sums, zeros};
use super::tiling::{mirror_combinations, window_starts};
use crate::dataset::mirror;
use crate::gpu::DeviceProfile;
use crate::graph::{
    Executor, Graph, GraphError, Parameters, Profile, Program, ProgramOptions, remove_dead_nodes,
};
use crate::models::{ModelError, Network};
use crate::nn::Mode;
use crate::ops::ValueId;
use crate::ops::layout::convert;
use crate::tensor::{Element, Shape};

/// How a volume is predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct InferenceOptions {
    /// Distance between windows as a share of the window, 0.5 as nnU-Net's.
    pub step: f64,
    /// Spatial axes (0 = D, 1 = H, 2 = W) whose mirror images are predicted as well and averaged: 2^axes times the work.
    pub mirror_axes: Vec<usize>,
}

impl Default for InferenceOptions {
    fn default() -> Self {
        Self {
            step: 0.5,
            mirror_axes: Vec::new(),
        }
    }
}

impl InferenceOptions {
    /// Windows further apart than their extent would leave voxels that none of them sees.
    fn check(&self) -> Result<(), GraphError> {
        let refuse = |reason: String| {
            Err(GraphError::Limit {
                node: "inference".into(),
                reason,
            })
        };
        if !(self.step > 0.0 && self.step <= 1.0) {
            return refuse(format!(
                "the step must lie above 0 and at most 1, found {}",
                self.step
            ));
        }
        match self.mirror_axes.iter().find(|&&axis| axis > 2) {
            Some(axis) => refuse(format!("axes to mirror are 0, 1 and 2, found {axis}")),
            None => Ok(()),
        }
    }
}

/// A network compiled for inference on patches. The device holds one patch at a time, however large the volume and
/// however many its classes; the host holds the logits of as many slices as a patch has.
#[derive(Debug)]
pub struct Predictor {
    executor: Executor,
    image: ValueId,
    patch: [usize; 3],
    in_channels: usize,
    out_channels: usize,
}

/// The part of a graph that inference on `shape` (N, in_channels, D, H, W) needs: the first head alone, whose logits are f32;
/// and the input to feed.
pub(crate) fn inference_program(
    network: &Network,
    shape: Shape,
    device: &DeviceProfile,
) -> Result<(Program, ValueId), ModelError> {
    let mut graph = Graph::new();
    let image = graph.input("image", shape)?;
    let heads = network.build(&mut graph, image, Mode::Inference)?;
    // Where the logits of windows are added up, they are f32.
    let logits = convert(&mut graph, heads.logits[0], Element::F32).map_err(|e| graph.blame(e))?;
    let outputs = [logits];
    remove_dead_nodes(&mut graph, &outputs);
    let program = Program::compile(graph, &outputs, device, ProgramOptions::default())?;
    Ok((program, image))
}

/// One patch.
fn window(network: &Network, patch: [usize; 3]) -> Shape {
    Shape::new(1, network.in_channels(), 1, 1, 1).with_spatial(patch)
}

impl Predictor {
    /// Compiles `network` for `patch` (D, H, W) with the weights of `parameters`, which training may go on changing.
    ///
    /// # Errors
    /// [`ModelError`] where the patch does not fit the network or the device.
    pub fn new(
        network: &Network,
        patch: [usize; 3],
        parameters: &mut Parameters,
    ) -> Result<Self, ModelError> {
        let gpu = parameters.gpu().clone();
        let shape = window(network, patch);
        let (program, image) = inference_program(network, shape, gpu.profile())?;
        Ok(Self {
            executor: Executor::new(program, parameters)?,
            image,
            patch,
            in_channels: network.in_channels(),
            out_channels: network.out_channels(),
        })
    }

    /// Bytes of device memory that [`Predictor::new`] takes beside the parameters, before anything is allocated.
    ///
    /// # Errors
    /// As [`Predictor::new`].
    pub fn planned_bytes(
        network: &Network,
        patch: [usize; 3],
        device: &DeviceProfile,
    ) -> Result<u64, ModelError> {
        let shape = window(network, patch);
        let sums = inference_program(network, shape, device)?.0.summary();
        Ok(sums.slot_bytes + sums.input_bytes)
    }

    /// Milliseconds of one window by operator, on the device. The window is black: the work does not depend on it.
    ///
    /// # Errors
    /// The device's errors, that it has no timestamps among them.
    pub async fn profile(&self) -> Result<Profile, GraphError> {
        let shape = Shape::new(1, self.in_channels, 1, 1, 1).with_spatial(self.patch);
        let window = vec![0.0; shape.len()];
        // The first run pays for what the driver does but once.
        self.executor.run(&[(self.image, &window)]).await?;
        self.executor.fetch().await?;
        let times = self.executor.run_timed(&[(self.image, &window)]).await?;
        self.executor.fetch().await?;
        Ok(Profile::new(self.executor.program(), &[times]))
    }

    /// Number of patches that a volume of `extent` takes.
    pub fn patch_count(&self, extent: [usize; 3], options: &InferenceOptions) -> usize {
        let padded = self.padded(extent);
        window_starts(padded, self.patch, options.step).len() << options.mirror_axes.len()
    }

    /// Logits (out_channels, D, H, W) of `image` (in_channels, D, H, W): the Gaussian-weighted mean over all windows
    /// and mirror images. A volume smaller than the patch is padded with zeros on both sides. `progress` hears of
    /// each patch.
    ///
    /// # Errors
    /// [`GraphError::DataSize`] where `image` does not fit `extent`; [`GraphError::Limit`] for options that make no
    /// sense; the device's errors.
    pub async fn predict(
        &self,
        image: &[f32],
        extent: [usize; 3],
        options: &InferenceOptions,
        progress: &mut dyn FnMut(),
    ) -> Result<Vec<f32>, GraphError> {
        let [depth, height, width] = extent;
        let plane = height * width;
        let len = self.out_channels * depth * plane;
        let mut logits = zeros(len).ok_or_else(|| GraphError::HostMemory {
            what: format!("logits of {} classes", self.out_channels),
            bytes: (len * size_of::<f32>()) as u64,
        })?;
        let mut z = 0;
        let mut keep = |slices: Vec<Slice>| {
            for slice in slices {
                for (c, channel) in slice.chunks_exact(plane).enumerate() {
                    logits[(c * depth + z) * plane..][..plane].copy_from_slice(channel);
                }
                z += 1;
            }
        };
        self.predict_slices(image, extent, options, progress, &mut keep)
            .await?;
        Ok(logits)
    }

    /// As [`Predictor::predict`], but hands the logits to `sink` as soon as they are final: slices across D in their
    /// order, (out_channels, H, W) each, a few at a time. Never more slices are held than a patch has.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub async fn predict_slices(
        &self,
        image: &[f32],
        extent: [usize; 3],
        options: &InferenceOptions,
        progress: &mut dyn FnMut(),
        sink: &mut dyn FnMut(Vec<Slice>),
    ) -> Result<(), GraphError> {
        options.check()?;
        let expected = Shape::new(1, self.in_channels, 1, 1, 1).with_spatial(extent);
        if image.len() != expected.len() {
            return Err(GraphError::DataSize {
                name: "image".into(),
                expected,
                found: image.len(),
            });
        }
        let padded = self.padded(extent);
        let before = [0, 1, 2].map(|a| (padded[a] - extent[a]) / 2);
        let mut gather = Gather {
            sums: Sums::new(self.out_channels, padded, self.patch),
            before,
            extent,
            patch: self.patch,
            sink,
        };
        let mut open: Option<([usize; 3], Vec<usize>)> = None;
        for start in window_starts(padded, self.patch, options.step) {
            let window = cut(image, extent, start, before, self.patch);
            for axes in mirror_combinations(&options.mirror_axes) {
                let mut input = window.clone();
                mirror(&mut input, self.patch, &axes);
                self.executor.run(&[(self.image, &input)]).await?;
                if let Some(earlier) = open.replace((start, axes)) {
                    self.collect(&mut gather, earlier, progress).await?;
                }
            }
        }
        if let Some(last) = open {
            self.collect(&mut gather, last, progress).await?;
        }
        gather.hand_out(padded[0]);
        Ok(())
    }

    fn padded(&self, extent: [usize; 3]) -> [usize; 3] {
        [0, 1, 2].map(|a| extent[a].max(self.patch[a]))
    }

    async fn collect(
        &self,
        gather: &mut Gather<'_>,
        (start, axes): ([usize; 3], Vec<usize>),
        progress: &mut dyn FnMut(),
    ) -> Result<(), GraphError> {
        if let Some(mut outputs) = self.executor.fetch().await? {
            let logits = &mut outputs[0].data;
            mirror(logits, self.patch, &axes);
            gather.add(logits, start)?;
        }
        progress();
        Ok(())
    }
}

/// The window of `image` (C, D, H, W) at `start` of the padded volume, zero outside the image.
fn cut(
    image: &[f32],
    extent: [usize; 3],
    start: [usize; 3],
    before: [usize; 3],
    patch: [usize; 3],
) -> Vec<f32> {
    let voxels: usize = extent.iter().product();
    let channels = image.len() / voxels.max(1);
    let mut window = vec![0.0; channels * patch.iter().product::<usize>()];
    let inside = |axis: usize, i: usize| {
        (start[axis] + i)
            .checked_sub(before[axis])
            .filter(|&p| p < extent[axis])
    };
    let first = (0..patch[2]).find(|&x| inside(2, x).is_some());
    let count = (0..patch[2]).filter(|&x| inside(2, x).is_some()).count();
    let Some((first, column)) = first.and_then(|x| Some((x, inside(2, x)?))) else {
        return window;
    };
    for (row, target) in window.chunks_exact_mut(patch[2]).enumerate() {
        let (y, z) = (row % patch[1], row / patch[1] % patch[0]);
        let c = row / (patch[1] * patch[0]);
        if let (Some(z), Some(y)) = (inside(0, z), inside(1, y)) {
            let at = ((c * extent[0] + z) * extent[1] + y) * extent[2] + column;
            target[first..first + count].copy_from_slice(&image[at..at + count]);
        }
    }
    window
}

/// Windows in, finished slices without the padding out.
struct Gather<'a> {
    sums: Sums,
    before: [usize; 3],
    extent: [usize; 3],
    patch: [usize; 3],
    sink: &'a mut dyn FnMut(Vec<Slice>),
}

impl Gather<'_> {
    fn add(&mut self, logits: &[f32], start: [usize; 3]) -> Result<(), GraphError> {
        // Windows come in the order of their first slices: none will reach what lies before this one.
        self.hand_out(start[0]);
        self.sums.add(logits, start)
    }

    fn hand_out(&mut self, end: usize) {
        let [_, top, left] = self.before;
        let [depth, rows, columns] = self.extent;
        let inner = Inner {
            start: [top, left],
            extent: [rows, columns],
        };
        let mut slices = self.sums.take(end, inner);
        if depth < self.patch[0] {
            // The padding of a volume with fewer slices than the patch; it is handed out all at once.
            slices = slices
                .into_iter()
                .skip(self.before[0])
                .take(depth)
                .collect();
        }
        if !slices.is_empty() {
            (self.sink)(slices);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_put_together_give_back_the_volume_without_its_padding() {
        for (extent, padded, before) in [
            ([5, 9, 7], [8, 9, 7], [1, 0, 0]),
            ([17, 3, 4], [17, 4, 6], [0, 0, 1]),
        ] {
            let patch = [8, 4, 6];
            let plane = extent[1] * extent[2];
            let image: Vec<f32> = (0..2 * extent[0] * plane).map(|v| v as f32).collect();
            let mut slices: Vec<Slice> = Vec::new();
            let mut sink = |more: Vec<Slice>| slices.extend(more);
            let mut gather = Gather {
                sums: Sums::new(2, padded, patch),
                before,
                extent,
                patch,
                sink: &mut sink,
            };
            for start in window_starts(padded, patch, 0.5) {
                let window = cut(&image, extent, start, before, patch);
                gather.add(&window, start).unwrap();
            }
            gather.hand_out(padded[0]);
            assert_eq!(slices.len(), extent[0]);
            for (z, slice) in slices.iter().enumerate() {
                let channel = |c: usize| &image[(c * extent[0] + z) * plane..][..plane];
                let expected = [channel(0), channel(1)].concat();
                assert_eq!(slice.len(), expected.len());
                for (a, b) in expected.iter().zip(slice) {
                    assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{a} {b}");
                }
            }
        }
    }
}
