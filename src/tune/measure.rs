//! Times the candidates of each problem of a graph, one node at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::gpu::{DeviceProfile, Gpu};
use crate::graph::{Executor, Graph, GraphError, Node, Parameters, Program, ProgramOptions};
use crate::ops::layout::convert;
use crate::ops::{Candidates, ValueId};
use crate::reference::Tolerance;
use crate::tensor::{Element, HostTensor};

/// Timed runs of a candidate after the one that compiles it; the best counts.
const RUNS: usize = 3;

/// Why a network cannot be tuned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The device or the graph failed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Two kernels for the same problem disagree: one of them, or the driver, is wrong.
    #[error(
        "kernel variants `{first}` and `{second}` disagree on {problem}: {reason}. Run without --tune, update the driver, and report this"
    )]
    Disagreement {
        /// The problem.
        problem: String,
        /// The variant that the rule chooses.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// The worst element.
        reason: String,
    },
}

impl TuneError {
    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Graph(e) => e.is_users_fault(),
            Self::Disagreement { .. } => false,
        }
    }
}

/// The times of the candidates of one problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The problem.
    pub problem: String,
    /// Variants with their best time in ms, the one chosen by rule first.
    pub times: Vec<(&'static str, f64)>,
}

impl Measured {
    /// The times in one line.
    pub fn to_text(&self) -> String {
        let times = self
            .times
            .iter()
            .map(|(name, ms)| format!("{name} {ms:.2} ms"));
        format!("{}: {}", self.problem, times.collect::<Vec<_>>().join(", "))
    }

    /// The fastest variant; of equals the one chosen by rule.
    pub fn fastest(&self) -> &'static str {
        let best = self
            .times
            .iter()
            .fold(self.times[0], |best, &next| match next.1 < best.1 {
                true => next,
                false => best,
            });
        best.0
    }
}

/// Problems by their names, each with a node that has it.
pub type Problems<'a> = BTreeMap<String, (&'a Node, Candidates)>;

/// The problems of a graph among whose kernels there is a choice.
pub fn problems_of<'a>(graph: &'a Graph, device: &DeviceProfile) -> Problems<'a> {
    let shapes =
        |ids: &[ValueId]| -> Vec<_> { ids.iter().map(|&v| graph.value(v).shape).collect() };
    let mut problems = BTreeMap::new();
    for node in graph.nodes() {
        let elements = elements_of(graph, node);
        let (inputs, outputs) = (shapes(&node.inputs), shapes(&node.outputs));
        let candidates = node.op.candidates(&inputs, &elements, &outputs, device);
        if let Some(candidates) = candidates {
            problems
                .entry(candidates.problem.clone())
                .or_insert((node, candidates));
        }
    }
    problems
}

/// How the inputs of a node are stored.
fn elements_of(graph: &Graph, node: &Node) -> Vec<Element> {
    let elements = node.inputs.iter().map(|&v| graph.value(v).element);
    elements.collect()
}

/// Times every candidate of `problems` (of `graph`) on random data; each candidate's result is compared with that of
/// the variant chosen by rule before its time counts. `hear` is told of every problem done and of their number.
///
/// # Errors
/// [`TuneError`].
pub async fn measure(
    graph: &Graph,
    problems: &Problems<'_>,
    gpu: &Arc<Gpu>,
    hear: &dyn Fn(&Measured, usize),
) -> Result<Vec<Measured>, TuneError> {
    let count = problems.len();
    let mut measured = Vec::with_capacity(count);
    for (node, candidates) in problems.values() {
        let one = measure_problem(graph, node, candidates, gpu).await?;
        hear(&one, count);
        measured.push(one);
    }
    Ok(measured)
}

async fn measure_problem(
    graph: &Graph,
    node: &Node,
    candidates: &Candidates,
    gpu: &Arc<Gpu>,
) -> Result<Measured, TuneError> {
    let trial = Trial::new(graph, node)?;
    let mut tolerance = Tolerance::for_terms(trial.terms);
    if elements_of(graph, node).contains(&Element::F16) {
        tolerance = tolerance.with_f16_storage();
    }
    let mut times = Vec::with_capacity(candidates.variants.len());
    let mut truth: Option<HostTensor<f64>> = None;
    for &variant in &candidates.variants {
        let (result, ms) = trial.run(candidates, variant, gpu).await?;
        match &truth {
            None => truth = Some(result.to_f64()),
            Some(truth) => {
                tolerance
                    .compare(variant, &result, truth)
                    .map_err(|reason| TuneError::Disagreement {
                        problem: candidates.problem.clone(),
                        first: candidates.variants[0],
                        second: variant,
                        reason,
                    })?;
            }
        }
        times.push((variant, ms));
    }
    Ok(Measured {
        problem: candidates.problem.clone(),
        times,
    })
}

/// One node in a graph of its own, with data. What converts its operands to their storage is timed with it, for every
/// candidate alike.
struct Trial {
    graph: Graph,
    inputs: Vec<(ValueId, Vec<f32>)>,
    output: ValueId,
    /// Products added up in one element of the output.
    terms: usize,
}

impl Trial {
    fn new(network: &Graph, node: &Node) -> Result<Self, GraphError> {
        let mut graph = Graph::new();
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for (index, &value) in node.inputs.iter().enumerate() {
            let shape = network.value(value).shape;
            let id = graph.input(&format!("input {index}"), shape)?;
            let data = (0..shape.len()).map(|_| rng.random_range(-1.0..1.0));
            inputs.push((id, data.collect()));
        }
        let shapes: Vec<_> = inputs
            .iter()
            .map(|(id, _)| graph.value(*id).shape)
            .collect();
        let mut ids = Vec::with_capacity(inputs.len());
        for (&(id, _), element) in inputs.iter().zip(elements_of(network, node)) {
            let id = convert(&mut graph, id, element).map_err(|e| graph.blame(e))?;
            ids.push(id);
        }
        let output = graph.node(node.op.clone(), &ids)?[0];
        let output = convert(&mut graph, output, Element::F32).map_err(|e| graph.blame(e))?;
        let shape = graph.value(output).shape;
        let flops = node.op.cost(&shapes, &[shape]).flops;
        Ok(Self {
            terms: (flops / 2.0 / shape.len().max(1) as f64).ceil() as usize,
            graph,
            inputs,
            output,
        })
    }

    /// The output under `variant`, and the best time in ms.
    async fn run(
        &self,
        candidates: &Candidates,
        variant: &str,
        gpu: &Arc<Gpu>,
    ) -> Result<(HostTensor, f64), GraphError> {
        let mut profile = gpu.profile().clone();
        profile
            .forced_variants
            .insert(candidates.family.into(), variant.into());
        let program = Program::compile(
            self.graph.clone(),
            &[self.output],
            &profile,
            ProgramOptions::default(),
        )?;
        let executor = Executor::new(program, &mut Parameters::new(gpu.clone(), 0))?;
        let data: Vec<(ValueId, &[f32])> =
            self.inputs.iter().map(|(id, d)| (*id, &d[..])).collect();
        executor.run(&data).await?;
        let result = fetched(&executor).await?;
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            best = best.min(time(&executor, gpu).await?);
        }
        Ok((result, best))
    }
}

/// One run in ms: on the device's clock where it has one, else on ours.
async fn time(executor: &Executor, gpu: &Gpu) -> Result<f64, GraphError> {
    if gpu.has_timestamps() {
        let times = executor.run_timed(&[]).await?;
        return Ok(times.iter().map(|t| t.ms).sum());
    }
    let start = Instant::now();
    executor.run(&[]).await?;
    fetched(executor).await?;
    Ok(1e3 * start.elapsed().as_secs_f64())
}

/// The output of the newest run.
async fn fetched(executor: &Executor) -> Result<HostTensor, GraphError> {
    let mut newest = None;
    while let Some(mut outputs) = executor.fetch().await? {
        newest = outputs.pop();
    }
    newest.ok_or_else(|| GraphError::UnknownName {
        what: "output",
        name: "of a run that was not made".into(),
        known: String::new(),
    })
}
