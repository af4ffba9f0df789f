//! voxseg's side of `make bench-peers`: answers the questions of benches/peers/compare.py on the standard input.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
#[path = "../common/mod.rs"]
mod common;
mod operators;
mod protocol;
mod truth;

use std::sync::Arc;

use serde_json::{Map, json};
use voxseg::gpu::{Gpu, GpuOptions};

use common::network::{Build, PARAMETERS, beside_naive, inference, training};
use protocol::{Outcome, Prepared};

/// Edge of the patch on which the whole step is compared with the naive convolutions.
const CHECKED_EDGE: usize = 16;

/// Training or inference of the network.
fn whole_step(gpu: &Arc<Gpu>, build: Build, edge: &str, check: bool) -> Outcome<Prepared> {
    if check {
        beside_naive(gpu, build, CHECKED_EDGE)?;
    }
    let job = build(gpu, gpu.profile(), edge.parse()?)?;
    let planned = job.executor.program().total_bytes() as f64 / f64::from(1 << 20);
    let facts = [
        ("parameters".to_owned(), json!(PARAMETERS)),
        ("planned_mib".to_owned(), json!(planned)),
    ];
    Ok(Prepared {
        run: Box::new(move || job.run().map(drop)),
        facts: Map::from_iter(facts),
    })
}

fn prepare(gpu: &Arc<Gpu>, case: &str, detail: &str, check: bool) -> Outcome<Prepared> {
    match (case, detail) {
        ("train", edge) => whole_step(gpu, training, edge, check),
        ("infer", edge) => whole_step(gpu, inference, edge, check),
        (name, "forward") => operators::prepare(gpu, name, false),
        (name, "both") => operators::prepare(gpu, name, true),
        _ => Err(format!("unknown case: {case} {detail}").into()),
    }
}

fn main() -> Outcome<()> {
    if !std::env::args().any(|a| a == "--serve") {
        println!("run `make bench-peers` for this one");
        return Ok(());
    }
    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default()))?;
    let about = json!({
        "version": concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")),
        "device": gpu.describe(),
    });
    protocol::serve(about, |case, detail, check| {
        prepare(&gpu, case, detail, check)
    })
}
