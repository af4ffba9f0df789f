//! How the training step of a small nnU-Net grows with its patch, and what it costs the host beside the device:
//! `cargo bench --bench growth`, or `-- 32 64` for some edges.
//!
//! The network is that of benches/common/network.rs. Each edge takes its turn in each round, so that a neighbour's load falls
//! on all alike. A patch of 16^3 is first checked against the naive convolutions.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use std::sync::Arc;
use std::time::Duration;

use voxseg::gpu::Gpu;

use common::clock::thread_time;
use common::network::{Job, beside_naive, training};
use common::{Outcome, Rig};

const EDGES: [usize; 4] = [32, 64, 96, 128];
const ROUNDS: usize = 3;
/// Steps of which the host's cost is taken: on the smallest patch the device holds it up least.
const HOST_STEPS: usize = 20;

struct Row {
    edge: usize,
    job: Job,
    times: Vec<Duration>,
    /// The host's processor time for a step: filling, encoding and submitting it, and reading its results.
    host: Vec<Duration>,
}

impl Row {
    fn new(gpu: &Arc<Gpu>, edge: usize) -> Outcome<Self> {
        let job = training(gpu, gpu.profile(), edge)?;
        // The first run compiles what the driver has put off.
        job.run()?;
        Ok(Self {
            edge,
            job,
            times: Vec::new(),
            host: Vec::new(),
        })
    }

    fn step(&mut self) -> Outcome<()> {
        let before = thread_time();
        self.times.push(self.job.run()?.1);
        let after = thread_time();
        self.host.extend(after.zip(before).map(|(a, b)| a - b));
        Ok(())
    }

    fn ns_a_voxel(&self) -> f64 {
        let best = self.times.iter().min().copied().unwrap_or_default();
        best.as_secs_f64() * 1e9 / self.edge.pow(3) as f64
    }

    fn print(&self, first: f64) {
        let program = self.job.executor.program();
        let mut host = self.host.clone();
        host.sort();
        let host = match host.get(host.len() / 2) {
            Some(median) => format!("{:.2} ms", 1e3 * median.as_secs_f64()),
            None => "not told by this system".to_owned(),
        };
        println!(
            "{0}^3: best {1:.3} s of {2}, {3:.0} ns a voxel, {4:.2} times the first; {5} dispatches, {6:.1} MiB; host {host}",
            self.edge,
            self.ns_a_voxel() * 1e-9 * self.edge.pow(3) as f64,
            self.times.len(),
            self.ns_a_voxel(),
            self.ns_a_voxel() / first,
            program.dispatch_count(),
            program.total_bytes() as f64 / f64::from(1 << 20),
        );
    }
}

fn main() -> Outcome<()> {
    // cargo adds `--bench`.
    let named = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let mut edges: Vec<usize> = named.map(|a| a.parse()).collect::<Result<_, _>>()?;
    if edges.is_empty() {
        edges = EDGES.to_vec();
    }
    let rig = Rig::get();
    let ratio = beside_naive(&rig.gpu, training, 16)?;
    println!("{ratio:.1} times as fast as with naive convolutions, on 16^3");
    let mut rows = Vec::new();
    for edge in edges {
        rows.push(Row::new(&rig.gpu, edge)?);
    }
    for _ in 0..ROUNDS {
        for row in &mut rows {
            row.step()?;
        }
    }
    if let Some(smallest) = rows.iter_mut().min_by_key(|row| row.edge) {
        for _ in ROUNDS..HOST_STEPS {
            smallest.step()?;
        }
    }
    let first = rows.first().map_or(1.0, Row::ns_a_voxel);
    for row in &rows {
        row.print(first);
    }
    Ok(())
}
