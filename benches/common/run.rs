//! A compiled graph with the content of its inputs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use voxseg::gpu::{DeviceProfile, Gpu};
use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions};
use voxseg::ops::{Layout, ValueId};
use voxseg::tensor::{HostTensor, Shape};

use super::Outcome;

/// The inputs of a graph with what they hold.
#[derive(Default)]
pub struct Feeds(Vec<(ValueId, HostTensor)>);

impl Feeds {
    /// An input of numbers drawn evenly from [-1, 1], the same for the same position among the inputs.
    pub fn random(&mut self, graph: &mut Graph, name: &str, shape: Shape) -> Outcome<ValueId> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.0.len() as u64);
        let draw = |_| rng.random_range(-1.0..=1.0);
        let data = (0..shape.len()).map(draw).collect();
        self.tensor(graph, name, HostTensor { shape, data })
    }

    /// An input that holds `tensor`.
    pub fn tensor(
        &mut self,
        graph: &mut Graph,
        name: &str,
        tensor: HostTensor,
    ) -> Outcome<ValueId> {
        let id = graph.input(name, tensor.shape)?;
        self.0.push((id, tensor));
        Ok(id)
    }

    /// The inputs in the order they were fed.
    pub fn iter(&self) -> impl Iterator<Item = &(ValueId, HostTensor)> {
        self.0.iter()
    }

    /// Fills an input that the graph has already, such as an optimiser's.
    pub fn hold(&mut self, graph: &Graph, id: ValueId, data: Vec<f32>) {
        let shape = graph.value(id).shape;
        self.0.push((id, HostTensor { shape, data }));
    }
}

/// A compiled graph with its inputs on the device.
pub struct Run {
    /// What runs.
    pub executor: Executor,
    /// What its inputs hold.
    pub feeds: Feeds,
    gpu: Arc<Gpu>,
}

impl Run {
    /// Compiles `graph` under `profile`.
    pub fn new(
        gpu: &Arc<Gpu>,
        profile: &DeviceProfile,
        graph: Graph,
        feeds: Feeds,
        outputs: &[ValueId],
    ) -> Outcome<Self> {
        let program = Program::compile(graph, outputs, profile, ProgramOptions::default())?;
        Ok(Self {
            executor: Executor::new(program, &mut Parameters::new(gpu.clone(), 0))?,
            feeds,
            gpu: gpu.clone(),
        })
    }

    /// Uploads the inputs, runs once and fetches the results.
    pub fn results(&self) -> Outcome<Vec<HostTensor>> {
        let views: Vec<_> = self
            .feeds
            .0
            .iter()
            .map(|(id, t)| (*id, &t.data[..]))
            .collect();
        let results = pollster::block_on(async {
            self.executor.run(&views).await?;
            self.executor.fetch().await
        })?;
        Ok(results.ok_or("no run is open")?)
    }

    /// The device's time of one run, or the host's where the device has no clock.
    pub fn time(&self) -> Outcome<Duration> {
        if self.gpu.has_timestamps() {
            let times = pollster::block_on(self.executor.run_timed(&[]))?;
            let ms: f64 = times.iter().map(|t| t.ms).sum();
            return Ok(Duration::from_secs_f64(ms * 1e-3));
        }
        self.wall()
    }

    /// The host's time of one run, from its submission until the results are there.
    pub fn wall(&self) -> Outcome<Duration> {
        let start = Instant::now();
        pollster::block_on(async {
            self.executor.run(&[]).await?;
            self.executor.fetch().await
        })?;
        Ok(start.elapsed())
    }

    /// The shortest of `count` runs, seconds.
    pub fn best(&self, count: usize) -> Outcome<f64> {
        let times: Vec<Duration> = (0..count).map(|_| self.time()).collect::<Outcome<_>>()?;
        Ok(times.into_iter().min().unwrap_or_default().as_secs_f64())
    }
}

/// Operations and bytes of one run, the least that the definitions of its operators need.
pub fn cost(program: &Program) -> (f64, f64) {
    let nodes = program.graph().nodes().iter().enumerate();
    nodes
        .filter(|(_, node)| matches!(node.op.layout(), Layout::Fresh | Layout::ConcatChannels))
        .map(|(at, _)| program.cost(at))
        .fold((0.0, 0.0), |sum, c| (sum.0 + c.flops, sum.1 + c.bytes))
}
