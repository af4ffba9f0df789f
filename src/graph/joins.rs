//! A pass for little memory: the gradients of a convolution of a join, one part of the join at a time.
//!
//! The weight gradient of a convolution reads all of its source, and its input gradient makes all of it, twice as many channels as
//! any other map where the source is the join of a decoder with its skip connection. Both are made in shares, one for each
//! part of the join and the same bits, so that no two parts need be there at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Graph, Node, Role, Value};
use crate::gpu::DeviceProfile;
use crate::ops::conv::{
    ConvInputGrad, ConvInputGradShare, ConvWeightGrad, ConvWeightGradShare, Convolution, Direction,
};
use crate::ops::layout::{Concat, SliceChannels};
use crate::ops::{Layout, Operator, ValueId};

/// The graph with such gradients in shares where windows have neither stride nor dilation, behind its first `first_backward` nodes,
/// but for those among `outputs`. What `device`
/// cannot bind at once stays as it is: it is computed in parts of another kind, whose sums have another order.
pub(super) fn split_joins(
    graph: &Graph,
    first_backward: usize,
    outputs: &[ValueId],
    device: &DeviceProfile,
) -> Graph {
    let is_alike = |n: &&Node| {
        let stored = |&value: &ValueId| graph.value(value).element;
        n.inputs.iter().all(|i| stored(i) == stored(&n.outputs[0]))
    };
    let joins: BTreeMap<ValueId, &Node> = graph
        .nodes
        .iter()
        .filter(|n| n.op.layout() == Layout::ConcatChannels)
        .filter(is_alike)
        .map(|n| (n.outputs[0], n))
        .collect();
    let mut split = graph.clone();
    let backward = split.nodes.split_off(first_backward);
    let mut in_shares: BTreeSet<ValueId> = BTreeSet::new();
    for (at, node) in backward.iter().enumerate() {
        if node.inputs.iter().any(|i| in_shares.contains(i)) {
            continue;
        }
        let limit = device.binding_limit();
        let is_bound = |id: &ValueId| graph.value(*id).bytes() <= limit;
        let convolution = node.op.convolution().filter(|conv| {
            let mut values = node.inputs.iter().chain(&node.outputs);
            let a = &conv.attributes;
            [a.stride, a.dilation] == [[1; 3]; 2] && values.all(is_bound)
        });
        let is_done = convolution.is_some_and(|conv| match conv.direction {
            Direction::WeightGrad => match joins.get(&node.inputs[0]) {
                Some(join) => {
                    weight_shares(&mut split, node, conv, &join.inputs);
                    true
                }
                None => false,
            },
            Direction::InputGrad => {
                let slices = slices_of(&backward[at + 1..], node.outputs[0])
                    .filter(|_| !outputs.contains(&node.outputs[0]));
                let is_done =
                    slices.is_some_and(|s| input_shares(&mut split, node, conv, &s, device));
                in_shares.extend(is_done.then_some(node.outputs[0]));
                is_done
            }
            Direction::Forward => false,
        });
        if !is_done {
            split.nodes.push(node.clone());
        }
    }
    split
}

/// The nodes that read `value`, where all of them take channels of it.
fn slices_of(nodes: &[Node], value: ValueId) -> Option<Vec<(usize, ValueId)>> {
    let readers = nodes.iter().filter(|n| n.inputs.contains(&value));
    let slices = readers.map(|n| match n.op.layout() {
        Layout::SliceChannels { start } => Some((start, n.outputs[0])),
        _ => None,
    });
    slices.collect::<Option<Vec<_>>>().filter(|s| s.len() > 1)
}

/// Appends the gradient of the weight in shares, the last part of the join first: it is what the parts before are made of.
fn weight_shares(split: &mut Graph, node: &Node, conv: Convolution, parts: &[ValueId]) {
    let whole = split.value(node.outputs[0]).shape;
    let channels = split.value(node.inputs[0]).shape.c();
    let mut shares = Vec::new();
    for &part in parts.iter().rev() {
        let op = ConvWeightGradShare {
            whole: ConvWeightGrad {
                attributes: conv.attributes,
            },
            channels,
        };
        let shape = whole.with_c(split.value(part).shape.c());
        let share = value_like(split, node.outputs[0], shape.c());
        push(split, node, Arc::new(op), &[part, node.inputs[1]], share);
        shares.push(share);
    }
    shares.reverse();
    push(split, node, Arc::new(Concat), &shares, node.outputs[0]);
}

/// Appends the slices of the gradient of the source in place of the gradient, the last first.
fn input_shares(
    split: &mut Graph,
    node: &Node,
    conv: Convolution,
    slices: &[(usize, ValueId)],
    device: &DeviceProfile,
) -> bool {
    let &[dy, w] = node.inputs.as_slice() else {
        return false;
    };
    let dx = split.value(node.outputs[0]).shape;
    let share = || ConvInputGradShare {
        whole: ConvInputGrad {
            attributes: conv.attributes,
            input_size: dx.spatial(),
        },
        channels: dx.c(),
    };
    let source = split.value(dy);
    let mut targets = slices.iter().map(|(_, slice)| split.value(*slice).shape);
    if !targets.all(|target| share().is_able(source.shape, target, source.element, device)) {
        return false;
    }
    for &(start, slice) in slices.iter().rev() {
        let len = split.value(slice).shape.c();
        let weight = value_like(split, w, len);
        let view = SliceChannels { start, len };
        push(split, node, Arc::new(view), &[w], weight);
        push(split, node, Arc::new(share()), &[dy, weight], slice);
    }
    true
}

/// A value of the name and kind of another, with other channels.
fn value_like(graph: &mut Graph, like: ValueId, channels: usize) -> ValueId {
    let like = graph.value(like);
    let value = Value {
        shape: like.shape.with_c(channels),
        role: Role::Computed,
        ..like.clone()
    };
    graph.push(value)
}

fn push(
    graph: &mut Graph,
    like: &Node,
    op: Arc<dyn Operator>,
    inputs: &[ValueId],
    output: ValueId,
) {
    graph.nodes.push(Node {
        op,
        inputs: inputs.to_vec(),
        outputs: vec![output],
        name: like.name.clone(),
    });
}
