//! The static graph: planner, placement, executor.

mod execution;
mod failures;
mod measured;
mod memory;
mod placement;
mod planner;
mod sizes;

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
