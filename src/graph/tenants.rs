//! What asks for planned memory: from which node to which, and beside what it may not lie.

use std::collections::{BTreeMap, BTreeSet};

use super::lower::Lowered;
use super::placement::Placement;
use super::plan::Request;
use super::{Graph, GraphError, Role};
use crate::gpu::Access;
use crate::ops::{BufferRef, Dispatch, OpError, ValueId};

/// What asks for planned memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tenant {
    /// A value, with all that lies in its storage.
    Root(ValueId),
    /// Scratch space of a node.
    Scratch {
        /// The node.
        node: usize,
        /// As the node numbers it.
        index: usize,
    },
}

pub(super) fn tenant(node: usize, buffer: BufferRef) -> Tenant {
    match buffer {
        BufferRef::Value(v) => Tenant::Root(v),
        BufferRef::Scratch(index) => Tenant::Scratch { node, index },
    }
}

pub(super) fn tenant_name(graph: &Graph, tenant: Tenant) -> String {
    match tenant {
        Tenant::Root(value) => graph.value(value).name.clone(),
        Tenant::Scratch { node, .. } => format!("scratch space of {}", graph.nodes()[node].name),
    }
}

/// An operator, which may be a user's own, binds scratch space that it did not ask for.
pub(super) fn no_such_scratch(graph: &Graph, node: usize, index: usize) -> GraphError {
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

/// What each tenant needs, and from where to where.
pub(super) fn lifetimes(
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

/// Pairs of tenants, by their position in `requests`, of which some dispatch reads one and writes the other.
///
/// # Errors
/// [`GraphError::Node`] where a dispatch binds the same one both to read and to write.
pub(super) fn read_and_written(
    graph: &Graph,
    requests: &BTreeMap<Tenant, Request>,
    lowered: &[Lowered],
) -> Result<Vec<(usize, usize)>, GraphError> {
    let numbers: BTreeMap<Tenant, usize> = requests.keys().copied().zip(0..).collect();
    let mut pairs = BTreeSet::new();
    for (node, lowering) in lowered.iter().enumerate() {
        for dispatch in &lowering.dispatches {
            let bound = |access| of_access(node, dispatch, access);
            for written in bound(Access::Write) {
                for read in bound(Access::Read) {
                    if read == written {
                        return Err(read_while_written(graph, node, dispatch));
                    }
                    if let (Some(&a), Some(&b)) = (numbers.get(&read), numbers.get(&written)) {
                        pairs.insert((a.min(b), a.max(b)));
                    }
                }
            }
        }
    }
    Ok(pairs.into_iter().collect())
}

fn of_access(
    node: usize,
    dispatch: &Dispatch,
    access: Access,
) -> impl Iterator<Item = Tenant> + '_ {
    let bindings = dispatch.buffers.iter().zip(dispatch.kernel.access);
    bindings
        .filter(move |(_, found)| **found == access)
        .map(move |(binding, _)| tenant(node, binding.buffer))
}

/// What an operator, which may be a user's own, must not do.
fn read_while_written(graph: &Graph, node: usize, dispatch: &Dispatch) -> GraphError {
    let node = &graph.nodes()[node];
    GraphError::Node {
        node: node.name.clone(),
        source: OpError::Attribute {
            op: node.op.name(),
            reason: format!(
                "a dispatch of {} binds one tensor both to read and to write; bind it once, to write",
                dispatch.kernel.name
            ),
        },
    }
}
