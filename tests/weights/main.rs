//! Weights of others: PyTorch checkpoints read without running them, safetensors, names, nnU-Net's runs.

mod hostile;
mod names;
mod nnunet;
mod numbers;
mod state_dicts;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use voxseg::gpu::{Gpu, GpuOptions};

/// A file of tests/fixtures.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// The one device of this test binary. Without an adapter the tests fail and say what to install.
fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| {
        pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap_or_else(|e| panic!("{e}"))
    })
    .clone()
}
