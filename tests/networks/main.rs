//! Whole networks: parameter counts, and parity with PyTorch.

mod blueprints;
mod budget;
mod counts;
mod deeply_supervised;
mod dense;
mod direction;
mod family;
#[path = "../fixtures/loader.rs"]
mod fixtures;
mod half;
mod impossible_blueprints;
mod mobilenets;
mod norms;
mod overfit;
mod parity;
mod parts;
mod relatives;
mod tokens;
mod vnet;

use std::sync::{Arc, OnceLock};

use voxseg::gpu::{Gpu, GpuOptions};

/// The one device of this test binary. Without an adapter the tests fail and say what to install.
fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| {
        pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap_or_else(|e| panic!("{e}"))
    })
    .clone()
}
