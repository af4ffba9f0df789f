//! Classifiers of whole images: data, what is learnt, repeated, resumed and refused.

mod configuration;
mod data;
mod learning;
mod resampling;
mod runs;
mod shapes;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use voxseg::classify::{ClassifyConfig, ClassifyError, ClassifyOptions, ClassifyReport, train};
use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::run::RunFolder;

/// The one device of this test binary. Without an adapter the tests fail and say what to install.
fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| {
        pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap_or_else(|e| panic!("{e}"))
    })
    .clone()
}

/// A run of a small network of so many steps.
fn quick(steps: usize) -> ClassifyConfig {
    ClassifyConfig {
        model: "mobilenet_v1_025".to_owned(),
        steps: Some(steps),
        batch: Some(12),
        peak_learning_rate: Some(3e-3),
        ..ClassifyConfig::default()
    }
}

/// Trains on `data` of the folder into its `run`.
fn run(
    folder: &Path,
    run: &str,
    config: &ClassifyConfig,
    options: ClassifyOptions<'_>,
) -> Result<ClassifyReport, ClassifyError> {
    let (data, run) = (folder.join("data"), RunFolder::new(folder.join(run)));
    pollster::block_on(train(&data, &run, config, options, gpu(), &|_| ()))
}

/// Asserts that two runs left the same bytes, and names the files that differ.
fn assert_same(one: &Path, other: &Path) {
    let names = [
        "checkpoint_best.safetensors",
        "checkpoint_latest.safetensors",
        "checkpoint_final.safetensors",
        "log.jsonl",
        "validation.json",
        "config.toml",
        "classifier.json",
        "split.json",
    ];
    let read = |run: &Path, name: &str| {
        std::fs::read(run.join(name)).unwrap_or_else(|e| panic!("{name} of {}: {e}", run.display()))
    };
    let differ: Vec<&str> = names
        .into_iter()
        .filter(|name| read(one, name) != read(other, name))
        .collect();
    assert!(differ.is_empty(), "{differ:?} differ");
}
