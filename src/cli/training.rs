//! What the verbs that train have in common: flags of a run and of its device, and the way of a run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::interrupt::Interrupt;
use super::numbers::at_least_one;
use super::watch::{Watch, Words};
use super::{CliError, Common, Output};
use crate::bytes::Bytes;
use crate::gpu::Gpu;
use crate::graph::Profile;
use crate::run::RunFolder;
use crate::tensor::Element;
use crate::train::{Event, TrainError};

/// Flags of a run, whatever it trains.
#[derive(Debug, Args)]
pub struct TrainingFlags {
    /// Folder of the run; must be new unless --resume is given.
    #[arg(short, long, value_name = "RUN")]
    pub output: PathBuf,
    /// Go on from the latest checkpoint of RUN under its own configuration.
    #[arg(long, conflicts_with_all = ["steps", "seed", "batch", "precision"])]
    pub resume: bool,
    /// TOML file with any of the keys that `--help` lists (not `-h`); flags win over it.
    #[arg(short, long, value_name = "FILE", conflicts_with = "resume")]
    pub config: Option<PathBuf>,
    /// Optimiser steps.
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub steps: Option<usize>,
    /// Seed of the weights, the split and every random choice.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Patches, or whole images, a step.
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub batch: Option<usize>,
    /// Device memory that a training step may plan for, such as 512MiB or 2GiB: what does not fit is computed twice
    /// instead of being kept, with the same results [default: no bound].
    #[arg(long, value_name = "BYTES")]
    pub memory_budget: Option<Bytes>,
    /// How activations and their gradients are stored, f32 or f16: f16 takes about half of the memory, on adapters that
    /// have it; parameters, sums and losses stay f32 [default: f32].
    #[arg(long, value_name = "TYPE")]
    pub precision: Option<Element>,
    /// Measure which kernels are the fastest for this network on this adapter, and train with those; measured once,
    /// then kept in the cache (VOXSEG_CACHE, else the user's cache folder) and in RUN/kernels.json.
    #[arg(long)]
    pub tune: bool,
    /// Time the dispatches of one early step and print them by operator, the slowest first.
    #[arg(long)]
    pub profile: bool,
}

/// What training is given beside its configuration.
pub(super) struct Given<'a> {
    /// The folder of the run.
    pub folder: &'a RunFolder,
    /// The device.
    pub gpu: Arc<Gpu>,
    /// Once it is true, training is to end after the step in hand.
    pub stop: &'a AtomicBool,
    /// Hears of all that happens.
    pub observe: &'a (dyn Fn(Event) + Sync),
}

impl TrainingFlags {
    /// Refuses what can be no folder of the run.
    pub(super) fn check_output(&self) -> Result<(), CliError> {
        match self.output.is_file() {
            false => Ok(()),
            true => {
                let problem = "is a file; a run needs a folder of its own, give another name";
                Err(CliError::input(&self.output, problem))
            }
        }
    }

    /// The folder of the run; one that is to be resumed must be there.
    fn folder(&self) -> Result<RunFolder, CliError> {
        let folder = RunFolder::new(&self.output);
        match self.resume && !folder.config().exists() {
            false => Ok(folder),
            true => Err(CliError::Train(TrainError::NotARun {
                path: self.output.clone(),
                reason: "it has no config.toml; start it without --resume".into(),
            })),
        }
    }

    /// Opens the device and lets `train` use it; shows what happens meanwhile, and lets Ctrl-C end it. Gives the folder, what
    /// `train` gave, and the times of a step where they were asked for.
    pub(super) fn run<R, E: Into<CliError>>(
        &self,
        (common, output, words): (&Common, &Output, Words),
        train: impl FnOnce(Given<'_>) -> Result<R, E>,
    ) -> Result<(RunFolder, R, Option<Profile>), CliError> {
        let folder = self.folder()?;
        let gpu = pollster::block_on(Gpu::open(&common.gpu_options()))?;
        output.news(&format!("adapter: {}", gpu.describe()));
        let watch = Watch::new(output, words);
        let interrupt = Interrupt::default();
        let hear = |event| {
            match event {
                // Before, nothing is lost that --resume would not make again.
                Event::Started { .. } => interrupt.listen(),
                Event::Validated(0, _) => interrupt.ignore(),
                _ => {}
            }
            watch.hear(event);
        };
        let result = train(Given {
            folder: &folder,
            gpu,
            stop: interrupt.flag(),
            observe: &hear,
        });
        let profile = watch.finish();
        let report = result.map_err(Into::into)?;
        Ok((folder, report, profile))
    }
}
