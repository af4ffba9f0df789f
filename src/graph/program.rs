//! A graph lowered for a device and planned: dispatches as plain data, before anything is allocated.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::limits::{buffer_limit, check_grid};
use super::lower::Lowered;
use super::placement::operand;
use super::plan::{MemoryPlan, Place, Request, Rules, plan_memory};
use super::tenants::{Tenant, no_such_scratch, read_and_written, tenant, tenant_name};
use super::{Graph, GraphError, Recomputed};
use crate::gpu::{Access, Constants, DeviceProfile, Kernel};
use crate::ops::{Binding, Cost, Dispatch, Operand, ValueId};
use crate::tensor::Element;

/// How a graph is compiled.
#[derive(Clone, Copy, Debug)]
pub struct ProgramOptions {
    /// Whether tensors whose lifetimes do not meet share memory, and outputs take over the storage of dying inputs.
    pub reuse_memory: bool,
    /// Whether what a dispatch reads may lie in one slot with what it writes: packed more closely, but such a dispatch
    /// declares all its buffers read_write, so that wgpu cannot tell any more whether two of them overlap.
    pub mixed_slots: bool,
}

impl Default for ProgramOptions {
    fn default() -> Self {
        Self {
            reuse_memory: true,
            mixed_slots: false,
        }
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

/// What a dispatch binds of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub storage: Storage,
    /// First byte.
    pub first: u64,
    /// Bytes, or as many as there are.
    pub bytes: u64,
}

/// One node's share of a program.
#[derive(Debug)]
pub(super) struct Step {
    pub node: usize,
    pub dispatch: Dispatch,
    pub storage: Vec<Bound>,
    /// Whether one buffer stands both at a binding that is read and at one that is written.
    pub mixed: bool,
}

/// A lowered and planned graph.
#[derive(Debug)]
pub struct Program {
    pub(super) graph: Graph,
    pub(super) steps: Vec<Step>,
    pub(super) outputs: Vec<(Bound, Operand)>,
    pub(super) residents: Vec<Resident>,
    plan: MemoryPlan,
    peak_bytes: u64,
    recomputed: Vec<Recomputed>,
    recomputed_madds: f64,
}

/// A tensor or scratch buffer of the memory plan, alive from node `first` to node `last`, both inclusive; or a part of a
/// tensor, where parts of it live differently.
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
    /// Its first byte there.
    pub offset: u64,
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
        Self::pack(Draft::of(graph, outputs, device, options)?, 0)
    }

    /// Packs what a draft needs, as well as it can or into [`Program::total_bytes`] that are `enough`.
    pub(super) fn pack(draft: Draft<'_>, enough: u64) -> Result<Self, GraphError> {
        let Draft {
            graph,
            outputs,
            device,
            options,
            placements,
            lowered,
            requests,
            peak_bytes,
        } = draft;
        let apart = match options.mixed_slots {
            true => Vec::new(),
            false => read_and_written(&graph, &requests, &lowered)?,
        };
        let list: Vec<Request> = requests.values().cloned().collect();
        let rules = Rules {
            apart: &apart,
            limit: buffer_limit(device),
            enough: enough.saturating_sub(graph.persistent_bytes()),
        };
        let plan = plan_memory(&list, rules, options.reuse_memory);
        let homes = Homes {
            graph: &graph,
            places: requests
                .iter()
                .zip(&plan.places)
                .map(|((tenant, request), place)| (*tenant, (*place, request.room())))
                .collect(),
            binding_limit: device.binding_limit(),
        };
        let steps = homes.steps(lowered)?;
        let outputs = outputs
            .iter()
            .map(|&v| {
                let o = operand(&graph, &placements, v);
                Ok((homes.bound(tenant(0, o.buffer), 0)?, o))
            })
            .collect::<Result<_, GraphError>>()?;
        let of_tenant = |((tenant, request), place): ((&Tenant, &Request), &Place)| {
            let (name, place) = (tenant_name(&graph, *tenant), *place);
            let alive = request.spans().filter(|(_, part)| part.first <= part.last);
            let residents = alive.map(|(first, part)| Resident {
                name: name.clone(),
                bytes: part.bytes,
                first: part.first,
                last: part.last,
                slot: place.slot,
                offset: place.offset + first,
            });
            residents.collect::<Vec<_>>()
        };
        let residents = requests.iter().zip(&plan.places).flat_map(of_tenant);
        let residents = residents.collect();
        Ok(Self {
            steps,
            outputs,
            residents,
            peak_bytes,
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
        self.graph.persistent_bytes()
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
        self.graph.cost(&self.graph.nodes()[node])
    }
}

/// Where everything lies.
struct Homes<'a> {
    graph: &'a Graph,
    /// The place of each tenant and the bytes it has there.
    places: BTreeMap<Tenant, (Place, u64)>,
    binding_limit: u64,
}

impl Homes<'_> {
    /// `tenant` from byte `first` on, as far as it goes or may be bound.
    fn bound(&self, tenant: Tenant, first: u64) -> Result<Bound, GraphError> {
        match (self.places.get(&tenant), tenant) {
            (Some((place, room)), _) => Ok(Bound {
                storage: Storage::Slot(place.slot),
                first: place.offset + first,
                bytes: room.saturating_sub(first).min(self.binding_limit),
            }),
            (None, Tenant::Root(value)) => Ok(Bound {
                storage: Storage::Own(value),
                first,
                bytes: self.binding_limit,
            }),
            (None, Tenant::Scratch { node, index }) => {
                Err(no_such_scratch(self.graph, node, index))
            }
        }
    }

    fn steps(&self, lowered: Vec<Lowered>) -> Result<Vec<Step>, GraphError> {
        let mut steps = Vec::new();
        for (node, lowering) in lowered.into_iter().enumerate() {
            for dispatch in lowering.dispatches {
                check_grid(self.graph, node, &dispatch)?;
                let bind = |(binding, element): (&Binding, &Element)| {
                    let first = element.bytes() * u64::from(binding.base);
                    self.bound(tenant(node, binding.buffer), first)
                };
                let bindings = dispatch.buffers.iter().zip(&dispatch.elements);
                let storage: Vec<Bound> = bindings.map(bind).collect::<Result<_, _>>()?;
                steps.push(Step {
                    node,
                    mixed: is_mixed(&dispatch, &storage),
                    dispatch,
                    storage,
                });
            }
        }
        Ok(steps)
    }
}

fn is_mixed(dispatch: &Dispatch, storage: &[Bound]) -> bool {
    let of = |access: Access| {
        let bindings = storage.iter().zip(dispatch.kernel.access);
        bindings.filter(move |(_, found)| **found == access)
    };
    of(Access::Write).any(|(w, _)| of(Access::Read).any(|(r, _)| r.storage == w.storage))
}
