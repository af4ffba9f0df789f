//! `voxseg inspect`: what a network is made of and what it costs, without running it.

mod gradients;
mod subject;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use self::subject::Subject;
use super::numbers::{PatchExtent, grouped};
use super::{CliError, Common, Output};
use crate::bytes::Bytes;
use crate::gpu::{DeviceProfile, Gpu, GpuError};
use crate::graph::{
    Graph, GraphError, NodeSummary, Program, ProgramOptions, Recomputed, remove_dead_nodes,
};
use crate::models::{ModelError, fitting_patch};
use crate::nn::Mode;
use crate::ops::layout::convert;
use crate::table::{Align, Table};
use crate::tensor::Element;
use crate::train::{TrainError, training_step};
use crate::tune::KernelChoices;
use crate::words::extent;

/// Tensors that are listed of those alive at the peak.
const LISTED: usize = 12;

/// Arguments of `voxseg inspect`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("subject").required(true).args(["run", "network"])))]
#[command(after_help = "Examples:
  voxseg inspect RUN
  voxseg inspect DATASET
  voxseg inspect DATASET --gradient-profile gradients.svg
  voxseg inspect --network nnunet3d --patch 128,128,128 --batch 2
  voxseg inspect --network nnunet3d --memory-budget 2GiB
  voxseg inspect --network ronneberger2d --inference
  voxseg inspect --network RUN/plan.json --patch 64,160,160 --json

Networks: the names of `voxseg models`, or a plan.json; classifiers are planned for prediction. The memory is that of a \
training step (parameters, gradients, optimiser), or with --inference that of one window. What this device cannot bind \
is planned nevertheless, with a warning.")]
pub struct InspectArgs {
    /// Folder of a training run, or a data set, which is planned as `train` would.
    pub run: Option<PathBuf>,
    /// A published network, or a plan.json.
    #[arg(long, value_name = "NAME|FILE")]
    pub network: Option<String>,
    /// Patch extent in voxels; H,W for 2D networks [default: as published or planned].
    #[arg(long, value_name = "D,H,W", allow_hyphen_values = true)]
    pub patch: Option<PatchExtent>,
    /// Patches a step [default: 2, or as planned].
    #[arg(long, value_name = "N", conflicts_with = "inference")]
    pub batch: Option<NonZeroUsize>,
    /// Input channels of a published network [default: as published].
    #[arg(long, value_name = "C", conflicts_with = "run")]
    pub channels: Option<NonZeroUsize>,
    /// Classes with the background of a published network [default: as published].
    #[arg(long, value_name = "K", conflicts_with = "run")]
    pub classes: Option<NonZeroUsize>,
    /// Device memory that the training step may plan for, such as 512MiB or 2GiB [default: that of the run, or no bound].
    #[arg(long, value_name = "BYTES", conflicts_with = "inference")]
    pub memory_budget: Option<Bytes>,
    /// How activations are stored, f32 or f16 [default: as the run trains, else f32].
    #[arg(long, value_name = "TYPE")]
    pub precision: Option<Element>,
    /// Plan the prediction of one window instead of a training step.
    #[arg(long)]
    pub inference: bool,
    /// Train the network of a data set for a few iterations, its main head alone, and print and draw into this SVG how large
    /// the gradient of each convolution is: a branch is supervised after the last one below 1e-7 (Wang et al. 2015).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["network", "inference", "precision", "memory_budget"])]
    pub gradient_profile: Option<PathBuf>,
    /// Iterations of the gradient profile, 10 to 50 in the paper.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "gradient_profile",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub iterations: u64,
}

/// Runs the verb.
///
/// # Errors
/// [`CliError::TooLarge`] or [`CliError::Model`] with the figure where the network is too large for the device.
pub fn run(args: &InspectArgs, common: &Common, output: &Output) -> Result<(), CliError> {
    if let (Some(picture), Some(dataset)) = (&args.gradient_profile, &args.run) {
        return gradients::run(dataset, picture, args, common, output);
    }
    let subject = Subject::of(args, common, output)?;
    let (mut device, device_name) = device(common, subject.kernels.as_deref())?;
    device.memory_budget = subject.memory_budget.map(|bytes| bytes.0);
    let refuse = |e| too_large(e, &subject, &device);
    let (forward, step, warning) = match programs(&subject, &device) {
        Ok((forward, step)) => (forward, step, None),
        Err(error) if is_limit(&error) => {
            let larger = DeviceProfile {
                max_binding: u64::MAX,
                max_buffer: u64::MAX,
                ..device.clone()
            };
            match programs(&subject, &larger) {
                Ok((forward, step)) => (forward, step, Some(refuse(error).to_string())),
                Err(_) => return Err(refuse(error)),
            }
        }
        Err(error) => return Err(refuse(error)),
    };
    if let Some(warning) = &warning {
        output.news(&format!("warning: {warning}"));
    }
    let inspection = Inspection {
        subject: &subject,
        device_name,
        layers: forward.nodes(),
        forward: &forward,
        step: step.as_ref(),
        warning,
    };
    output.result(&inspection.to_text(), &inspection.to_json())
}

/// Whether a larger device would do.
fn is_limit(error: &ModelError) -> bool {
    matches!(error, ModelError::Graph(GraphError::TooLarge { .. }))
}

/// The chosen adapter's limits, with the choices in the file `kernels` where they were measured on it; where there is no
/// adapter at all, those of the smallest device.
fn device(common: &Common, kernels: Option<&Path>) -> Result<(DeviceProfile, String), CliError> {
    let options = common.gpu_options();
    match pollster::block_on(Gpu::open(&options)) {
        Ok(gpu) => {
            let measured = kernels.map(|path| KernelChoices::read(path, &gpu));
            let measured = measured.transpose().map_err(TrainError::from)?.flatten();
            let profile = DeviceProfile {
                measured_variants: measured.map_or_else(Default::default, |m| m.variants),
                ..gpu.profile().clone()
            };
            Ok((profile, gpu.describe()))
        }
        Err(GpuError::NoAdapter) if options.adapter.is_none() => {
            let profile = DeviceProfile {
                forced_variants: options.forced_variants,
                ..DeviceProfile::minimal_gpu()
            };
            let name = "a minimal WebGPU device (there is no adapter here)";
            Ok((profile, name.to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The network alone, and unless it is for inference the training step.
fn programs(
    subject: &Subject,
    device: &DeviceProfile,
) -> Result<(Program, Option<Program>), ModelError> {
    let forward = forward_program(subject, device)?;
    let step = match subject.inference {
        true => None,
        false => Some(step_program(subject, device)?),
    };
    Ok((forward, step))
}

/// The error with a patch that would fit, where there is one.
fn too_large(source: ModelError, subject: &Subject, device: &DeviceProfile) -> CliError {
    let stride = subject.patch_steps();
    let fitting = stride.and_then(|stride| {
        fitting_patch(stride, subject.patch, |patch| {
            programs(&subject.with_patch(patch), device).map(|_| ())
        })
    });
    match fitting {
        Some(patch) => CliError::TooLarge {
            source: source.into(),
            patch: extent(patch),
        },
        None => source.into(),
    }
}

/// The network alone: with all heads as in training, or with the finest only.
fn forward_program(subject: &Subject, device: &DeviceProfile) -> Result<Program, ModelError> {
    let mut graph = Graph::new();
    let image = graph.input("image", subject.shape())?;
    let mode = match subject.inference {
        true => Mode::Inference,
        false => Mode::Training,
    };
    let mut outputs = subject.network.build(&mut graph, image, mode)?.logits;
    if subject.inference {
        outputs.truncate(1);
        remove_dead_nodes(&mut graph, &outputs);
    }
    for logits in &mut outputs {
        *logits = convert(&mut graph, *logits, Element::F32).map_err(|e| graph.blame(e))?;
    }
    let options = ProgramOptions::default();
    Ok(Program::compile(graph, &outputs, device, options)?)
}

fn step_program(subject: &Subject, device: &DeviceProfile) -> Result<Program, ModelError> {
    let step = training_step(
        &subject.network,
        subject.shape(),
        subject.form,
        &subject.loss,
        &subject.optimizer,
        device,
    )?;
    Ok(step.program)
}

/// All that is shown.
struct Inspection<'a> {
    subject: &'a Subject,
    device_name: String,
    layers: Vec<NodeSummary>,
    forward: &'a Program,
    step: Option<&'a Program>,
    /// What the device cannot bind.
    warning: Option<String>,
}

impl Inspection<'_> {
    /// The program whose memory is shown, and its name.
    fn planned(&self) -> (&Program, &'static str) {
        match self.step {
            Some(step) => (step, "training step"),
            None => (self.forward, "inference of one window"),
        }
    }

    fn to_json(&self) -> Value {
        let (program, what) = self.planned();
        let (peak, residents) = program.residents_at_peak();
        let forward = self.forward.summary();
        json!({
            "name": self.subject.name,
            "network": {
                "in_channels": self.subject.network.in_channels(),
                "out_channels": self.subject.network.out_channels(),
                "heads": self.subject.network.heads(),
                "precision": self.subject.network.precision,
            },
            "input": self.subject.shape().0,
            "device": self.device_name,
            "warning": self.warning,
            "layers": self.layers,
            "parameters": forward.parameters,
            "madds": forward.madds,
            "separable": self.forward.graph().separable_saving(),
            "planned": what,
            "memory": program.summary(),
            "slot_bytes": program.memory_plan().slots,
            "peak_node": node_name(program, peak),
            "alive_at_peak": residents,
            "recomputed": program.recomputed(),
            "recomputed_madds": program.recomputed_madds(),
        })
    }

    fn to_text(&self) -> String {
        format!(
            "{}: input {} (N, C, D, H, W), planned for {}\n\n{}{}\n{}\n{}\n{}",
            self.subject.name,
            self.subject.shape(),
            self.device_name,
            self.layer_table(),
            self.separable_text(),
            self.memory_text(),
            self.peak_table(),
            self.recomputed_text(),
        )
    }

    fn layer_table(&self) -> Table {
        let mut table = Table::new(&[
            ("layer", Align::Left),
            ("operator", Align::Left),
            ("output", Align::Left),
            ("parameters", Align::Right),
            ("10^6 MAdds", Align::Right),
        ]);
        let madds = |madds: f64| format!("{:.1}", madds / 1e6);
        for layer in &self.layers {
            table.row([
                layer.name.clone(),
                layer.op.to_owned(),
                layer.shape_text(),
                match layer.parameters {
                    0 => String::new(),
                    n => grouped(n as u64),
                },
                madds(layer.madds),
            ]);
        }
        let all = self.forward.summary();
        table.rule().row([
            "all".to_owned(),
            String::new(),
            String::new(),
            grouped(all.parameters as u64),
            madds(all.madds),
        ]);
        table
    }

    /// What depthwise separable convolutions save, where there are any.
    fn separable_text(&self) -> String {
        let graph = self.forward.graph();
        let Some(saving) = graph.separable_saving() else {
            return String::new();
        };
        let network = graph.product_madds();
        let millions = |madds: f64| format!("{:.1}", madds / 1e6);
        let [least, most] = saving.formula.map(|share| 100.0 * share);
        format!(
            "{} depthwise separable convolutions: {} * 10^6 MAdds, {:.1} % of the {} of full ones (1/N + 1/k is {least:.1} to {most:.1} %);\n\
             the convolutions and products of the network {} * 10^6 instead of {}\n",
            saving.pairs,
            millions(saving.madds),
            100.0 * saving.madds / saving.full_madds,
            millions(saving.full_madds),
            millions(network),
            millions(network - saving.madds + saving.full_madds),
        )
    }

    fn memory_text(&self) -> String {
        let (program, what) = self.planned();
        let s = program.summary();
        let mut table = Table::new(&[
            (what, Align::Left),
            ("MiB", Align::Right),
            ("", Align::Left),
        ]);
        let largest = program.memory_plan().slots.iter().max().copied();
        let slots = format!(
            "{} slots, the largest of {} MiB",
            s.slots,
            mib(largest.unwrap_or(0))
        );
        let peak = program.residents_at_peak().0;
        table
            .row(["activations and scratch".into(), mib(s.slot_bytes), slots])
            .row([
                "  of it alive at once".into(),
                mib(s.peak_bytes),
                format!("at {}", node_name(program, peak)),
            ])
            .row(["parameters, states, inputs".into(), mib(s.persistent_bytes)])
            .row(["all".into(), mib(s.total_bytes)]);
        let work = format!(
            "{} dispatches and {:.1} * 10^9 MAdds a run\n",
            s.dispatches,
            s.madds / 1e9
        );
        format!("{table}{work}")
    }

    /// What the backward part makes again, the most expensive first.
    fn recomputed_text(&self) -> String {
        let program = self.planned().0;
        let mut again: Vec<&Recomputed> = program.recomputed().iter().collect();
        if again.is_empty() {
            return String::new();
        }
        again.sort_by(|a, b| b.madds.total_cmp(&a.madds).then(a.name.cmp(&b.name)));
        let mut table = Table::new(&[
            ("made again, not kept", Align::Left),
            ("MiB", Align::Right),
            ("10^6 MAdds", Align::Right),
        ]);
        let madds = |madds: f64| format!("{:.1}", madds / 1e6);
        for value in again.iter().take(LISTED) {
            table.row([value.name.clone(), mib(value.bytes), madds(value.madds)]);
        }
        if let Some(rest) = again.get(LISTED..).filter(|rest| !rest.is_empty()) {
            let bytes = rest.iter().map(|r| r.bytes).sum();
            let sum = rest.iter().map(|r| r.madds).sum();
            table.row([format!("and {} more", rest.len()), mib(bytes), madds(sum)]);
        }
        let all = program.recomputed_madds();
        let share = 100.0 * all / program.summary().madds.max(1.0);
        format!(
            "{table}{:.1} * 10^9 MAdds a run make values again, {share:.1} % of it\n",
            all / 1e9
        )
    }

    fn peak_table(&self) -> Table {
        let mut table = Table::new(&[
            ("alive at the peak", Align::Left),
            ("MiB", Align::Right),
            ("slot", Align::Right),
            ("from byte", Align::Right),
        ]);
        let (_, residents) = self.planned().0.residents_at_peak();
        for resident in residents.iter().take(LISTED) {
            table.row([
                resident.name.clone(),
                mib(resident.bytes),
                resident.slot.to_string(),
                grouped(resident.offset),
            ]);
        }
        if let Some(rest) = residents.get(LISTED..).filter(|rest| !rest.is_empty()) {
            let bytes = rest.iter().map(|r| r.bytes).sum();
            table.row([format!("and {} more", rest.len()), mib(bytes)]);
        }
        table
    }
}

fn node_name(program: &Program, node: usize) -> &str {
    let nodes = program.graph().nodes();
    nodes.get(node).map_or("the end", |node| node.name.as_str())
}

fn mib(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_groups_of_three() {
        let texts = [0, 7, 999, 1000, 31_195_594].map(grouped);
        assert_eq!(texts, ["0", "7", "999", "1,000", "31,195,594"]);
    }
}
