//! Whole runs: what is learnt, repeated, resumed and refused.

mod allocations;
mod configuration;
mod curve;
mod determinism;
mod followed;
mod inheriting;
mod kinds_of_data;
mod learning;
mod lost;
mod memory;
mod phantom;
mod resuming;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tempfile::TempDir;
use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::run::RunFolder;
use voxseg::train::{TrainConfig, TrainError, TrainOptions, TrainReport, train};

use phantom::Phantom;

/// The one device of this test binary. Without an adapter the tests fail and say what to install.
fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| {
        pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap_or_else(|e| panic!("{e}"))
    })
    .clone()
}

/// A temporary folder with a data set in `data`.
fn folder_with(phantom: &Phantom) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    phantom.write(&folder.path().join("data"));
    folder
}

/// Trains on `data` of the folder into its `run`.
fn run(folder: &Path, run: &str, config: &str) -> Result<TrainReport, TrainError> {
    train_with(folder, run, config, TrainOptions::default())
}

fn train_with(
    folder: &Path,
    run: &str,
    config: &str,
    options: TrainOptions<'_>,
) -> Result<TrainReport, TrainError> {
    let config: TrainConfig = toml::from_str(config).expect("a configuration");
    let (data, run) = (folder.join("data"), RunFolder::new(folder.join(run)));
    pollster::block_on(train(&data, &run, &config, options, gpu(), &|_| ()))
}

/// The files of a run that its seed decides, with their bytes.
fn bytes_of(run: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let names = [
        "checkpoint_best.safetensors",
        "checkpoint_latest.safetensors",
        "checkpoint_final.safetensors",
        "log.jsonl",
        "validation.json",
        "config.toml",
        "plan.json",
    ];
    let read = |name| std::fs::read(run.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    names.map(|name| (name, read(name))).to_vec()
}

/// Asserts that two runs left the same bytes, and names the files that differ.
fn assert_same(one: &Path, other: &Path) {
    let pairs = bytes_of(one).into_iter().zip(bytes_of(other));
    let differ: Vec<&str> = pairs.filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
    assert!(differ.is_empty(), "{differ:?} differ");
}
