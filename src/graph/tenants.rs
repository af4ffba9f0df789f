//! What asks for planned memory: from which node to which, and beside what it may not lie.

use std::collections::{BTreeMap, BTreeSet};

use super::lower::Lowered;
use super::placement::Placement;
use super::plan::{Part, Request};
use super::{Graph, GraphError, Role, Value};
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
    let mut touches: BTreeMap<ValueId, Touches> = BTreeMap::new();
    let mut touch = |value: ValueId, at: usize| {
        let place = &placements[value.0 as usize];
        let root = graph.value(place.root);
        if root.role == Role::Computed {
            let touches = touches.entry(place.root).or_default();
            touches.add(graph.value(value), place, at);
        }
    };
    let mut requests = BTreeMap::new();
    // A node that is a view, or a join of what was made in place, touches no memory.
    let touching = lowered.iter().enumerate();
    for (at, node) in touching.filter(|(_, node)| !node.dispatches.is_empty()) {
        for &value in &node.touched {
            touch(value, at);
        }
        for (index, &bytes) in node.scratch.iter().enumerate() {
            let scratch = Tenant::Scratch { node: at, index };
            requests.insert(scratch, Request::whole(bytes, at, at));
        }
    }
    for &output in outputs {
        touch(output, lowered.len());
    }
    requests.extend(touches.into_iter().map(|(root, touches)| {
        let parts = touches.parts(graph.value(root).bytes());
        (Tenant::Root(root), Request { parts })
    }));
    requests
}

/// The most ranges of a storage that are told apart.
const MOST_RANGES: usize = 32;

/// Which bytes of a storage are touched by which nodes: of each range (first byte, end) the first and the last node.
#[derive(Default)]
struct Touches(BTreeMap<(u64, u64), (usize, usize)>);

impl Touches {
    fn add(&mut self, value: &Value, place: &Placement, at: usize) {
        let size = value.element.bytes();
        let (samples, stride) = (value.shape.n(), place.batch_stride);
        let (count, len) = match stride == value.shape.per_sample() {
            true => (1, samples * stride),
            false => (samples, value.shape.per_sample()),
        };
        for n in 0..count {
            let first = size * (place.offset + n * stride) as u64;
            let range = (first, first + size * len as u64);
            let nodes = self.0.entry(range).or_insert((at, at));
            *nodes = (nodes.0.min(at), nodes.1.max(at));
        }
    }

    /// A storage of `bytes` in parts, each as long as something in it is alive.
    fn parts(&self, bytes: u64) -> Vec<Part> {
        let mut cuts: BTreeSet<u64> = [0, bytes].into();
        if self.0.len() <= MOST_RANGES {
            cuts.extend(self.0.keys().flat_map(|&(first, end)| [first, end]));
        }
        let cuts: Vec<u64> = cuts.into_iter().collect();
        let mut parts: Vec<Part> = Vec::new();
        for cut in cuts.windows(2) {
            let inside = self
                .0
                .iter()
                .filter(|((first, end), _)| *first < cut[1] && cut[0] < *end);
            let (first, last) = inside.fold((usize::MAX, 0), |(first, last), (_, nodes)| {
                (first.min(nodes.0), last.max(nodes.1))
            });
            let bytes = cut[1] - cut[0];
            match parts.last_mut() {
                Some(part) if (part.first, part.last) == (first, last) => part.bytes += bytes,
                _ => parts.push(Part { bytes, first, last }),
            }
        }
        parts
    }
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
