//! The device of a benchmark and what it does at best.

use std::sync::{Arc, OnceLock};

use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::graph::Graph;
use voxseg::ops::layout::slice_channels;
use voxseg::tensor::{HostTensor, Shape};

use super::peak::{CopyPeak, FmaPeak};
use super::{Feeds, Outcome, Run, cost};

/// An open device and what it does at best.
pub struct Rig {
    /// The device.
    pub gpu: Arc<Gpu>,
    /// 10^9 operations a second; a multiply-add counts as two.
    pub gflops: f64,
    /// 10^9 bytes a second, read and written.
    pub gbytes: f64,
}

impl Rig {
    /// The one of this benchmark. Without an adapter it panics and says what to install.
    pub fn get() -> &'static Self {
        static RIG: OnceLock<Rig> = OnceLock::new();
        RIG.get_or_init(|| Self::open().unwrap_or_else(|e| panic!("{e}")))
    }

    /// Opens the default adapter and measures its peak.
    fn open() -> Outcome<Self> {
        let gpu = pollster::block_on(Gpu::open(&GpuOptions::default()))?;
        let (gflops, gbytes) = (fma_peak(&gpu)?, copy_peak(&gpu)?);
        println!(
            "{}: peak {gflops:.1} GFLOP/s, {gbytes:.1} GB/s",
            gpu.describe()
        );
        Ok(Self {
            gpu,
            gflops,
            gbytes,
        })
    }

    /// Rates of `flops` and `bytes` in `seconds`, with their share of the peak.
    pub fn rates(&self, (flops, bytes): (f64, f64), seconds: f64) -> String {
        let rate = |amount: f64, peak: f64, unit| {
            let rate = 1e-9 * amount / seconds;
            format!(
                "{rate:.2} {unit} ({:.0} % of the peak)",
                100.0 * rate / peak
            )
        };
        let bytes = rate(bytes, self.gbytes, "GB/s");
        match flops > 0.0 {
            true => format!("{}, {bytes}", rate(flops, self.gflops, "GFLOP/s")),
            false => bytes,
        }
    }
}

/// Runs of which the best counts as the peak.
const PEAK_RUNS: usize = 5;

fn fma_peak(gpu: &Arc<Gpu>) -> Outcome<f64> {
    let (mut graph, mut feeds) = (Graph::new(), Feeds::default());
    let half = HostTensor {
        shape: Shape::scalar(),
        data: vec![0.5],
    };
    let x = feeds.tensor(&mut graph, "x", half)?;
    let y = graph.node(Arc::new(FmaPeak::for_device(gpu.profile())), &[x])?[0];
    let run = Run::new(gpu, gpu.profile(), graph, feeds, &[y])?;
    if run.results()?[0]
        .data
        .iter()
        .any(|&v| (v - 8.0).abs() > 1e-5)
    {
        return Err("the kernel of multiply-adds computes something else".into());
    }
    Ok(1e-9 * cost(run.executor.program()).0 / run.best(PEAK_RUNS)?)
}

/// Elements of the copy: 64 MiB read and as many written, beyond the caches of most devices.
const COPY_LEN: usize = 16 << 20;

fn copy_peak(gpu: &Arc<Gpu>) -> Outcome<f64> {
    let (mut graph, mut feeds) = (Graph::new(), Feeds::default());
    let x = feeds.random(&mut graph, "x", Shape::vector(COPY_LEN))?;
    let y = graph.node(Arc::new(CopyPeak), &[x])?[0];
    // The tail alone comes back, so that the host's copy does not count where the device has no clock.
    let tail = slice_channels(&mut graph, y, COPY_LEN - 4, 4)?;
    let run = Run::new(gpu, gpu.profile(), graph, feeds, &[tail])?;
    let found = run.results()?;
    let sent = run.feeds.iter().map(|(_, t)| &t.data[COPY_LEN - 4..]);
    if !sent.eq([found[0].data.as_slice()]) {
        return Err("the kernel that copies does not".into());
    }
    Ok(1e-9 * 8.0 * COPY_LEN as f64 / run.best(PEAK_RUNS)?)
}
