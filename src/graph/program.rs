//! A graph lowered for a device and planned: dispatches as plain data, before anything is allocated.

use std::collections::BTreeMap;

use super::placement::{Placement, operand, place};
use super::plan::{MemoryPlan, Request, TRIES, peak_bytes, plan_with};
use super::{Graph, GraphError, MOST_BYTES, Recomputed, Role, Value};
use crate::gpu::{Constants, DeviceProfile, Kernel};
use crate::ops::{
    BufferRef, Cost, Dispatch, Layout, Lowering, OpError, Operand, ValueId, lower_within_limits,
};
use crate::tensor::Element;

/// Workgroups along one axis of a grid, the same on every WebGPU device.
const MAX_WORKGROUPS: u32 = 65_535;

/// How a graph is compiled.
#[derive(Clone, Copy, Debug)]
pub struct ProgramOptions {
    /// Whether tensors whose lifetimes do not meet share memory, and outputs take over the storage of dying inputs.
    pub reuse_memory: bool,
}

impl Default for ProgramOptions {
    fn default() -> Self {
        Self { reuse_memory: true }
    }
}

/// What a dispatch binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// An input, parameter or state: a buffer of its own.
    Own(ValueId),
    /// A slot of the memory plan.
    Slot(usize),
}

/// From where on a dispatch binds a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub storage: Storage,
    /// First byte.
    pub first: u64,
}

/// One node's share of a program.
#[derive(Debug)]
pub(super) struct Step {
    pub node: usize,
    pub dispatch: Dispatch,
    pub storage: Vec<Bound>,
}

/// A lowered and planned graph.
#[derive(Debug)]
pub struct Program {
    pub(super) graph: Graph,
    pub(super) steps: Vec<Step>,
    pub(super) outputs: Vec<(ValueId, Storage, Operand)>,
    pub(super) residents: Vec<Resident>,
    /// The most bytes of a buffer that a dispatch binds.
    pub(super) binding_limit: u64,
    plan: MemoryPlan,
    peak_bytes: u64,
    recomputed: Vec<Recomputed>,
    recomputed_madds: f64,
}

/// A tensor or scratch buffer of the memory plan, alive from node `first` to node `last`, both inclusive.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Resident {
    /// The tensor, or the node whose scratch space it is.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Index of the first node that touches it.
    pub first: usize,
    /// Index of the last one; the number of nodes for what is fetched after the run.
    pub last: usize,
    /// The slot that it lies in.
    pub slot: usize,
    /// The value whose storage it is; none for scratch space.
    #[serde(skip)]
    pub(super) root: Option<ValueId>,
}

/// What asks for planned memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tenant {
    Root(ValueId),
    Scratch { node: usize, index: usize },
}

impl Program {
    /// Lowers and plans `graph` for `device`; `outputs` can be fetched after a run.
    ///
    /// # Errors
    /// [`GraphError::TooLarge`], [`GraphError::Limit`], [`GraphError::NoF16`], [`GraphError::FetchedF16`] or
    /// [`GraphError::Node`], all before anything is allocated.
    pub fn compile(
        graph: Graph,
        outputs: &[ValueId],
        device: &DeviceProfile,
        options: ProgramOptions,
    ) -> Result<Self, GraphError> {
        Self::compile_with(graph, outputs, device, options, TRIES)
    }

    /// [`Program::compile`] with so many tries to pack tensors better.
    pub(super) fn compile_with(
        graph: Graph,
        outputs: &[ValueId],
        device: &DeviceProfile,
        options: ProgramOptions,
        tries: usize,
    ) -> Result<Self, GraphError> {
        check_elements(&graph, outputs, device)?;
        check_values(&graph, outputs, device)?;
        let placements = place(&graph, outputs, options.reuse_memory);
        let lowered = lower_nodes(&graph, &placements, device)?;
        let requests = lifetimes(&graph, &placements, &lowered, outputs);
        check_requests(&graph, &requests, device)?;
        let list: Vec<Request> = requests.values().cloned().collect();
        let plan = plan_with(&list, options.reuse_memory, tries);
        let slots: BTreeMap<Tenant, usize> = requests
            .keys()
            .copied()
            .zip(plan.slot_of.iter().copied())
            .collect();
        let residents = requests
            .iter()
            .zip(&plan.slot_of)
            .map(|((tenant, request), &slot)| Resident {
                name: tenant_name(&graph, *tenant),
                bytes: request.bytes,
                first: request.first,
                last: request.last,
                slot,
                root: match tenant {
                    Tenant::Root(value) => Some(*value),
                    Tenant::Scratch { .. } => None,
                },
            })
            .collect();
        let storage_of = |tenant: Tenant| match (slots.get(&tenant), tenant) {
            (Some(&slot), _) => Ok(Storage::Slot(slot)),
            (None, Tenant::Root(v)) => Ok(Storage::Own(v)),
            (None, Tenant::Scratch { node, index }) => Err(no_such_scratch(&graph, node, index)),
        };
        let mut steps = Vec::new();
        for (node, lowering) in lowered.into_iter().enumerate() {
            // Drivers treat an empty grid as a silent no-op, so it is no step.
            for dispatch in lowering
                .dispatches
                .into_iter()
                .filter(|d| !d.workgroups.contains(&0))
            {
                check_grid(&graph, node, &dispatch)?;
                let storage = dispatch
                    .buffers
                    .iter()
                    .zip(&dispatch.elements)
                    .map(|(b, element)| {
                        Ok(Bound {
                            storage: storage_of(tenant(node, b.buffer))?,
                            first: element.bytes() * u64::from(b.base),
                        })
                    })
                    .collect::<Result<_, GraphError>>()?;
                steps.push(Step {
                    node,
                    dispatch,
                    storage,
                });
            }
        }
        let outputs = outputs
            .iter()
            .map(|&v| {
                let o = operand(&graph, &placements, v);
                Ok((v, storage_of(tenant(0, o.buffer))?, o))
            })
            .collect::<Result<_, GraphError>>()?;
        Ok(Self {
            steps,
            outputs,
            residents,
            binding_limit: device.binding_limit(),
            peak_bytes: peak_bytes(&list),
            plan,
            graph,
            recomputed: Vec::new(),
            recomputed_madds: 0.0,
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The slots of the activations and scratch space.
    pub fn memory_plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// The kernel of each dispatch, in order, with its specialisation.
    pub fn kernels(&self) -> impl Iterator<Item = (&'static Kernel, &Constants)> {
        let dispatches = self.steps.iter().map(|step| &step.dispatch);
        dispatches.map(|dispatch| (dispatch.kernel, &dispatch.constants))
    }

    /// The most bytes of activations and scratch space alive at once; no plan can need less.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// What the backward part makes again instead of keeping it.
    pub fn recomputed(&self) -> &[Recomputed] {
        &self.recomputed
    }

    /// Multiply-adds of a run that make such values again, each as often as it is made.
    pub fn recomputed_madds(&self) -> f64 {
        self.recomputed_madds
    }

    pub(super) fn set_recomputed(&mut self, recomputed: Vec<Recomputed>, madds: f64) {
        self.recomputed = recomputed;
        self.recomputed_madds = madds;
    }

    /// Bytes of parameters, states and inputs.
    pub fn persistent_bytes(&self) -> u64 {
        self.bytes_of(|role| *role != Role::Computed)
    }

    /// Bytes of the values with a role of which `counts` holds.
    pub(super) fn bytes_of(&self, counts: impl Fn(&Role) -> bool) -> u64 {
        let values = self.graph.values().filter(|(_, v)| counts(&v.role));
        values.map(|(_, v)| v.bytes()).sum()
    }

    /// Bytes of device memory that a run needs: slots, parameters, states and inputs.
    pub fn total_bytes(&self) -> u64 {
        self.plan.total_bytes() + self.persistent_bytes()
    }

    /// Number of dispatches of a run.
    pub fn dispatch_count(&self) -> usize {
        self.steps.len()
    }

    /// Operations and bytes of a node.
    pub fn cost(&self, node: usize) -> Cost {
        let n = &self.graph.nodes()[node];
        let shapes = |ids: &[ValueId]| -> Vec<_> {
            ids.iter().map(|&i| self.graph.value(i).shape).collect()
        };
        let mut cost = n.op.cost(&shapes(&n.inputs), &shapes(&n.outputs));
        // Operators count four bytes an element.
        let operands = || n.inputs.iter().chain(&n.outputs);
        let values = || operands().map(|&i| self.graph.value(i));
        let stored: f64 = values().map(|v| v.bytes() as f64).sum();
        let single: f64 = values().map(|v| v.shape.bytes() as f64).sum();
        if single > 0.0 {
            cost.bytes *= stored / single;
        }
        cost
    }
}

fn tenant(node: usize, buffer: BufferRef) -> Tenant {
    match buffer {
        BufferRef::Value(v) => Tenant::Root(v),
        BufferRef::Scratch(index) => Tenant::Scratch { node, index },
    }
}

fn tenant_name(graph: &Graph, tenant: Tenant) -> String {
    match tenant {
        Tenant::Root(value) => graph.value(value).name.clone(),
        Tenant::Scratch { node, .. } => format!("scratch space of {}", graph.nodes()[node].name),
    }
}

/// An operator, which may be a user's own, binds scratch space that it did not ask for.
fn no_such_scratch(graph: &Graph, node: usize, index: usize) -> GraphError {
    let node = &graph.nodes()[node];
    GraphError::Node {
        node: node.name.clone(),
        source: OpError::Attribute {
            op: node.op.name(),
            reason: format!(
                "a dispatch binds scratch space {index}, which the operator did not ask for; bind what Lowering::scratch gives"
            ),
        },
    }
}

/// A node's scratch requests (bytes) and dispatches.
struct Lowered {
    scratch: Vec<u64>,
    dispatches: Vec<Dispatch>,
    touched: Vec<ValueId>,
}

/// Bound from its place on where the buffer is too large to be bound from the start.
fn near(operand: Operand, device: &DeviceProfile) -> Operand {
    match operand.reach() > device.binding_limit() {
        true => operand.rebased(),
        false => operand,
    }
}

fn lower_nodes(
    graph: &Graph,
    placements: &[Placement],
    device: &DeviceProfile,
) -> Result<Vec<Lowered>, GraphError> {
    let operands = |ids: &[ValueId]| -> Vec<Operand> {
        ids.iter()
            .map(|&v| near(operand(graph, placements, v), device))
            .collect()
    };
    graph
        .nodes()
        .iter()
        .map(|node| {
            let (inputs, outputs) = (operands(&node.inputs), operands(&node.outputs));
            let mut lowering = Lowering::new(device, &inputs, &outputs);
            if !matches!(
                node.op.layout(),
                Layout::SliceChannels { .. } | Layout::Reshape
            ) {
                lower_within_limits(node.op.as_ref(), &mut lowering).map_err(|source| {
                    GraphError::Node {
                        node: node.name.clone(),
                        source,
                    }
                })?;
            }
            if !lowering.fits() {
                return Err(GraphError::TooLarge {
                    what: node.name.clone(),
                    bytes: lowering.reach(),
                    limit: device.binding_limit(),
                });
            }
            let (scratch, dispatches) = (lowering.scratch, lowering.dispatches);
            Ok(Lowered {
                scratch,
                dispatches,
                touched: [node.inputs.clone(), node.outputs.clone()].concat(),
            })
        })
        .collect()
}

fn lifetimes(
    graph: &Graph,
    placements: &[Placement],
    lowered: &[Lowered],
    outputs: &[ValueId],
) -> BTreeMap<Tenant, Request> {
    let mut requests: BTreeMap<Tenant, Request> = BTreeMap::new();
    let mut touch = |tenant: Tenant, bytes: u64, at: usize| {
        let request = requests.entry(tenant).or_insert(Request {
            bytes,
            first: at,
            last: at,
        });
        request.first = request.first.min(at);
        request.last = request.last.max(at);
    };
    let touch_value = |value: ValueId, at: usize, touch: &mut dyn FnMut(Tenant, u64, usize)| {
        let root = placements[value.0 as usize].root;
        if graph.value(root).role == Role::Computed {
            touch(Tenant::Root(root), graph.value(root).bytes(), at);
        }
    };
    for (at, node) in lowered.iter().enumerate() {
        for &value in &node.touched {
            touch_value(value, at, &mut touch);
        }
        for (index, &bytes) in node.scratch.iter().enumerate() {
            touch(Tenant::Scratch { node: at, index }, bytes, at);
        }
    }
    for &output in outputs {
        touch_value(output, lowered.len(), &mut touch);
    }
    requests
}

/// The most bytes that a buffer may have, with elements that u32 can number.
fn buffer_limit(device: &DeviceProfile) -> u64 {
    device.max_buffer.min(MOST_BYTES)
}

/// Only what the device can store may be stored, and only f32 may be fetched.
fn check_elements(
    graph: &Graph,
    outputs: &[ValueId],
    device: &DeviceProfile,
) -> Result<(), GraphError> {
    let is_half = |value: &Value| value.element == Element::F16;
    if !device.f16 && graph.values().any(|(_, value)| is_half(value)) {
        return Err(GraphError::NoF16);
    }
    let mut fetched = outputs.iter().map(|&id| graph.value(id));
    match fetched.find(|value| is_half(value)) {
        None => Ok(()),
        Some(value) => Err(GraphError::FetchedF16 {
            name: value.name.clone(),
        }),
    }
}

/// Every value in use must fit a buffer; the largest is named where some do not. Before lowering, which computes with sizes, and whose dispatches for a huge batch
/// would fill the host's memory.
fn check_values(
    graph: &Graph,
    outputs: &[ValueId],
    device: &DeviceProfile,
) -> Result<(), GraphError> {
    let limit = buffer_limit(device);
    let of_nodes = graph.nodes().iter();
    let of_nodes = of_nodes.flat_map(|n| n.inputs.iter().chain(&n.outputs));
    let persistent = graph.values().filter(|(_, v)| v.role != Role::Computed);
    let used = of_nodes.chain(outputs).copied();
    let values = used.chain(persistent.map(|(id, _)| id));
    let largest = values
        .map(|id| graph.value(id))
        .max_by_key(|value| value.bytes());
    match largest.filter(|value| value.bytes() > limit) {
        None => Ok(()),
        Some(value) => Err(GraphError::TooLarge {
            what: value.name.clone(),
            bytes: value.bytes(),
            limit,
        }),
    }
}

/// What the plan is asked for must fit as well: scratch space may be larger than any value. The largest is named.
fn check_requests(
    graph: &Graph,
    requests: &BTreeMap<Tenant, Request>,
    device: &DeviceProfile,
) -> Result<(), GraphError> {
    let limit = buffer_limit(device);
    let largest = requests.iter().max_by_key(|(_, request)| request.bytes);
    match largest.filter(|(_, request)| request.bytes > limit) {
        None => Ok(()),
        Some((tenant, request)) => Err(GraphError::TooLarge {
            what: tenant_name(graph, *tenant),
            bytes: request.bytes,
            limit,
        }),
    }
}

fn check_grid(graph: &Graph, node: usize, dispatch: &Dispatch) -> Result<(), GraphError> {
    let [x, rows @ ..] = dispatch.workgroups;
    // Kernels count channels and samples along y and z, voxels and what else there is along x.
    let remedy = match rows.iter().any(|&groups| groups > MAX_WORKGROUPS) {
        true => "a smaller batch or fewer features",
        false if x > MAX_WORKGROUPS => "a smaller patch",
        false => return Ok(()),
    };
    Err(GraphError::Limit {
        node: graph.nodes()[node].name.clone(),
        reason: format!(
            "kernel {} wants a grid of {:?} workgroups, at most {MAX_WORKGROUPS} an axis are allowed; use {remedy}",
            dispatch.kernel.name, dispatch.workgroups
        ),
    })
}
