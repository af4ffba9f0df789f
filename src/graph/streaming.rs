//! A pass for little memory: convolutions slab by slab, over their sources, with what transposed convolutions make of them made on
//! the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Graph, Node};
use crate::gpu::DeviceProfile;
use crate::ops::conv::{Direction, Piece, Streamed};
use crate::ops::{Layout, ValueId};

/// Slabs are for maps of at least such a share of the largest: a join of two maps is twice as large as these.
const LARGE: u64 = 4;

/// Lets large convolutions be computed slab by slab on `device`; `outputs` can be fetched. Nodes that nothing reads any more stay.
pub(super) fn stream(graph: &mut Graph, outputs: &[ValueId], device: &DeviceProfile) {
    let made = graph.nodes.iter().flat_map(|n| &n.outputs);
    let largest = made.map(|&value| graph.value(value).bytes()).max();
    let least = largest.unwrap_or(0) / LARGE;
    let uses = Uses::of(graph, outputs);
    let streamed: Vec<(usize, Node)> = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| {
            let target = node.outputs.first();
            target.is_some_and(|&target| graph.value(target).bytes() >= least)
        })
        .filter_map(|(at, node)| Some((at, streamed(graph, &uses, node, device)?)))
        .collect();
    for (at, node) in streamed {
        graph.nodes[at] = node;
    }
}

/// Which node makes a value, and how many read it.
struct Uses {
    makers: BTreeMap<ValueId, usize>,
    readers: BTreeMap<ValueId, usize>,
}

impl Uses {
    fn of(graph: &Graph, outputs: &[ValueId]) -> Self {
        let nodes = || graph.nodes.iter().enumerate();
        let made = nodes().flat_map(|(at, n)| n.outputs.iter().map(move |&o| (o, at)));
        let mut readers = BTreeMap::new();
        for &value in nodes().flat_map(|(_, n)| &n.inputs).chain(outputs) {
            *readers.entry(value).or_default() += 1;
        }
        Self {
            makers: made.collect(),
            readers,
        }
    }

    /// The node that makes `value` for one reader alone.
    fn maker_for_one<'a>(&self, graph: &'a Graph, value: ValueId) -> Option<&'a Node> {
        let is_for_one = self.readers.get(&value) == Some(&1);
        let maker = self.makers.get(&value).filter(|_| is_for_one)?;
        Some(&graph.nodes[*maker])
    }
}

/// The node slab by slab, where it is a convolution that can be.
fn streamed(graph: &Graph, uses: &Uses, node: &Node, device: &DeviceProfile) -> Option<Node> {
    let conv = node.op.convolution()?;
    let (&source, own) = node.inputs.split_first()?;
    let join = uses
        .maker_for_one(graph, source)
        .filter(|n| n.op.layout() == Layout::ConcatChannels);
    let parts = match join {
        Some(join) => join.inputs.as_slice(),
        None => &[source],
    };
    let (mut pieces, mut inputs) = (Vec::new(), Vec::new());
    for &part in parts {
        let maker = uses.maker_for_one(graph, part).filter(|_| join.is_some());
        let made = maker.and_then(|maker| {
            let conv = maker.op.convolution()?;
            let from = graph.value(maker.inputs[0]).shape;
            (conv.direction == Direction::InputGrad).then_some((maker, (conv, from)))
        });
        let before = inputs.len();
        match made {
            Some((maker, _)) => inputs.extend(&maker.inputs),
            None => inputs.push(part),
        }
        pieces.push(Piece {
            shape: graph.value(part).shape,
            made: made.map(|(_, made)| made),
            inputs: inputs.len() - before,
        });
    }
    inputs.extend(own);
    let target = graph.value(node.outputs[0]);
    let stored = |&value: &ValueId| graph.value(value).element;
    if parts.iter().any(|part| stored(part) != target.element) {
        return None;
    }
    let op = Streamed::new(conv, pieces, target.shape, target.element, device)?;
    Some(Node {
        op: Arc::new(op),
        inputs,
        outputs: node.outputs.clone(),
        name: node.name.clone(),
    })
}
