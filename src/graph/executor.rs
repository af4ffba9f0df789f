//! Runs a program: buffers and bind groups made once, one submit a run.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::program::{Bound, Program, Step, Storage};
use super::{GraphError, Parameters, Role};
use crate::gpu::{
    BufferRange, Download, Gpu, GpuBuffer, RecordedDispatch, Recording, Staging, Transfer, Wanted,
};
use crate::ops::ValueId;
use crate::tensor::HostTensor;

/// Runs that may be under way at once: the host prepares one while the device computes the other.
const DEPTH: usize = 2;

/// The time of one dispatch in a profiled run.
#[derive(Clone, Debug)]
pub struct NodeTime {
    /// Index of the node in the graph.
    pub node: usize,
    /// The kernel.
    pub kernel: &'static str,
    /// Milliseconds on the device.
    pub ms: f64,
}

/// A program with its memory on a device.
#[derive(Debug)]
pub struct Executor {
    gpu: Arc<Gpu>,
    program: Program,
    recording: Recording,
    inputs: BTreeMap<ValueId, Input>,
    downloads: Vec<Download>,
    /// Runs submitted and runs fetched so far.
    submitted: Cell<usize>,
    fetched: Cell<usize>,
    output_buffers: Vec<GpuBuffer>,
}

#[derive(Debug)]
struct Input {
    buffer: GpuBuffer,
    staging: Vec<Staging>,
}

impl Executor {
    /// Allocates the slots of `program`, takes its parameters from `parameters` (making what is missing), compiles its
    /// pipelines and makes its bind groups.
    ///
    /// # Errors
    /// [`GraphError::StoredShape`], or the device's errors.
    pub fn new(program: Program, parameters: &mut Parameters) -> Result<Self, GraphError> {
        let gpu = parameters.gpu().clone();
        parameters.ensure(program.graph())?;
        let slots = program
            .memory_plan()
            .slots
            .iter()
            .map(|&bytes| gpu.create_storage("slot", bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let inputs = make_inputs(&gpu, &program)?;
        let find = |bound: &Bound| match bound.storage {
            Storage::Slot(slot) => Ok(slots[slot].clone()),
            Storage::Own(value) => own_buffer(&program, &inputs, parameters, value),
        };
        let recording = record(&gpu, &program, &find)?;
        let output_buffers = program
            .outputs
            .iter()
            .map(|(bound, _)| find(bound))
            .collect::<Result<Vec<_>, _>>()?;
        let bytes = program
            .outputs
            .iter()
            .map(|(_, o)| 4 * o.shape.len() as u64)
            .sum();
        let downloads = (0..DEPTH)
            .map(|_| Download::new(&gpu, bytes))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            gpu,
            program,
            recording,
            inputs,
            downloads,
            submitted: Cell::new(0),
            fetched: Cell::new(0),
            output_buffers,
        })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Uploads `data` (inputs left out keep what they held; of an input given twice the last counts), submits one run,
    /// and returns without waiting for it. What is refused changes nothing.
    /// At most two runs may await [`Executor::fetch`]; the results of an older one are dropped.
    ///
    /// # Errors
    /// [`GraphError::UnknownName`], [`GraphError::DataSize`], or the device's errors.
    pub async fn run(&self, data: &[(ValueId, &[f32])]) -> Result<(), GraphError> {
        let transfers = self.prepare(data).await?;
        self.recording.run(&self.gpu, &transfers)?;
        self.advance();
        Ok(())
    }

    /// Like [`Executor::run`], timing every dispatch on the device; waits for the end.
    ///
    /// # Errors
    /// As [`Executor::run`]; an adapter without timestamps is one of the device's errors.
    pub async fn run_timed(&self, data: &[(ValueId, &[f32])]) -> Result<Vec<NodeTime>, GraphError> {
        let transfers = self.prepare(data).await?;
        let times = self.recording.run_timed(&self.gpu, &transfers).await?;
        self.advance();
        Ok(self
            .program
            .steps
            .iter()
            .zip(times)
            .map(|(step, time)| NodeTime {
                node: step.node,
                kernel: step.dispatch.kernel.name,
                ms: time.ms,
            })
            .collect())
    }

    /// Waits for the oldest run that was not fetched and gives its outputs, in the order they were named to
    /// [`Program::compile`]. `None` where no run is open.
    ///
    /// # Errors
    /// The device's errors.
    pub async fn fetch(&self) -> Result<Option<Vec<HostTensor>>, GraphError> {
        if self.fetched.get() == self.submitted.get() {
            return Ok(None);
        }
        let turn = self.fetched.get();
        self.fetched.set(turn + 1);
        let outputs = self.downloads[turn % DEPTH]
            .fetch(&self.gpu, |bytes| self.split(bytes))
            .await?;
        Ok(Some(outputs))
    }

    fn split(&self, bytes: &[u8]) -> Vec<HostTensor> {
        let mut at = 0;
        let mut take = |len: usize| {
            let part = &bytes[at..at + 4 * len];
            at += 4 * len;
            bytemuck::pod_collect_to_vec(part)
        };
        self.program
            .outputs
            .iter()
            .map(|(_, o)| HostTensor {
                shape: o.shape,
                data: take(o.shape.len()),
            })
            .collect()
    }

    fn advance(&self) {
        self.submitted.set(self.submitted.get() + 1);
        if self.submitted.get() - self.fetched.get() > DEPTH {
            self.fetched.set(self.submitted.get() - DEPTH);
        }
    }

    async fn prepare(&self, data: &[(ValueId, &[f32])]) -> Result<Vec<Transfer<'_>>, GraphError> {
        let turn = self.submitted.get() % DEPTH;
        // A staging buffer is only mapped again by a submit, so that nothing may be refused once the first is filled.
        let feeds = data
            .iter()
            .map(|&(value, content)| Ok((value, (self.feed(value, content)?, content))))
            .collect::<Result<BTreeMap<_, _>, GraphError>>()?;
        let mut transfers = Vec::with_capacity(feeds.len() + self.output_buffers.len());
        for (input, content) in feeds.into_values() {
            let staging = &input.staging[turn];
            let bytes: &[u8] = bytemuck::cast_slice(content);
            staging.fill(&self.gpu, bytes).await?;
            transfers.push(Transfer::Upload(staging, &input.buffer, bytes.len() as u64));
        }
        self.push_fetches(&self.downloads[turn], &mut transfers);
        Ok(transfers)
    }

    /// The input that `content` is for, if it may be.
    fn feed(&self, value: ValueId, content: &[f32]) -> Result<&Input, GraphError> {
        let input = self.inputs.get(&value).ok_or_else(|| self.unknown(value))?;
        let known = self.program.graph().value(value);
        if content.len() == known.shape.len() {
            return Ok(input);
        }
        Err(GraphError::DataSize {
            name: known.name.clone(),
            expected: known.shape,
            found: content.len(),
        })
    }

    /// A value inside another's storage has gaps between its samples, so samples are copied one by one.
    fn push_fetches<'a>(&'a self, to: &'a Download, transfers: &mut Vec<Transfer<'a>>) {
        let mut at = 0;
        for ((bound, o), from) in self.program.outputs.iter().zip(&self.output_buffers) {
            let bytes = 4 * o.shape.per_sample() as u64;
            for n in 0..o.shape.n() as u64 {
                let source =
                    bound.first + 4 * (u64::from(o.offset) + n * u64::from(o.batch_stride));
                transfers.push(Transfer::Fetch(from, source, to, at, bytes));
                at += bytes;
            }
        }
    }

    fn unknown(&self, value: ValueId) -> GraphError {
        let graph = self.program.graph();
        GraphError::UnknownName {
            what: "input",
            name: graph.value(value).name.clone(),
            known: self
                .inputs
                .keys()
                .map(|&v| graph.value(v).name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

fn make_inputs(gpu: &Gpu, program: &Program) -> Result<BTreeMap<ValueId, Input>, GraphError> {
    program
        .graph()
        .values()
        .filter(|(_, v)| v.role == Role::Input)
        .map(|(id, value)| {
            let bytes = 4 * value.shape.len() as u64;
            let staging = (0..DEPTH)
                .map(|_| Staging::new(gpu, bytes))
                .collect::<Result<Vec<_>, _>>()?;
            let buffer = gpu.create_storage(&value.name, bytes)?;
            Ok((id, Input { buffer, staging }))
        })
        .collect()
}

fn own_buffer(
    program: &Program,
    inputs: &BTreeMap<ValueId, Input>,
    parameters: &Parameters,
    value: ValueId,
) -> Result<GpuBuffer, GraphError> {
    if let Some(input) = inputs.get(&value) {
        return Ok(input.buffer.clone());
    }
    let name = &program.graph().value(value).name;
    parameters
        .get(name)
        .map(|t| t.buffer.clone())
        .ok_or_else(|| GraphError::UnknownName {
            what: "parameter",
            name: name.clone(),
            known: parameters.names().collect::<Vec<_>>().join(", "),
        })
}

/// Uniform bindings must start at multiples of this on every device.
const UNIFORM_ALIGNMENT: usize = 256;

fn wanted(step: &Step) -> Wanted<'_> {
    Wanted {
        all_writable: step.mixed,
        ..step.dispatch.wanted()
    }
}

fn record(
    gpu: &Gpu,
    program: &Program,
    find: &impl Fn(&Bound) -> Result<GpuBuffer, GraphError>,
) -> Result<Recording, GraphError> {
    let mut blocks = Vec::new();
    let mut offsets = Vec::new();
    for step in &program.steps {
        offsets.push(blocks.len() as u64);
        blocks.extend(&step.dispatch.params);
        blocks.resize(blocks.len().next_multiple_of(UNIFORM_ALIGNMENT), 0);
    }
    gpu.prepare_pipelines(program.steps.iter().map(wanted))?;
    let uniform = gpu.create_uniform("parameter blocks", &blocks)?;
    let mut recording = Recording::new();
    for (step, offset) in program.steps.iter().zip(offsets) {
        let pipeline = gpu.pipeline(wanted(step))?;
        let storage = step.storage.iter().map(find);
        let storage = storage.collect::<Result<Vec<_>, _>>()?;
        let ranges: Vec<BufferRange<'_>> = storage
            .iter()
            .zip(&step.storage)
            .map(|(buffer, bound)| buffer.range(bound.first, bound.bytes))
            .collect();
        let size = (step.dispatch.params.len() as u64).next_multiple_of(16);
        recording.push(RecordedDispatch::new(
            gpu,
            pipeline,
            (&uniform, offset, size),
            &ranges,
            step.dispatch.workgroups,
        ));
    }
    Ok(recording)
}
