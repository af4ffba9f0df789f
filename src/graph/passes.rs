//! Passes that make a graph smaller before it is planned.

use std::collections::{BTreeMap, BTreeSet};

use super::{Graph, Node, Role, Value};
use crate::ops::{Layout, ValueId};

/// Keeps only nodes that `outputs` depend on, or that update something persistent: deep-supervision branches that an
/// inference graph does not read cost nothing there.
pub fn remove_dead_nodes(graph: &mut Graph, outputs: &[ValueId]) {
    let mut live: BTreeSet<ValueId> = outputs.iter().copied().collect();
    let mut keep = vec![false; graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        if !node.op.updates().is_empty() || node.outputs.iter().any(|o| live.contains(o)) {
            keep[i] = true;
            live.extend(&node.inputs);
        }
    }
    let mut kept = keep.iter();
    graph.nodes.retain(|_| *kept.next().unwrap_or(&true));
}

/// Where a value made by a cheap operator (norm + activation) is used again in the backward part, computes it again
/// there instead of keeping it in memory over the whole step.
///
/// `first_backward` is the number of forward nodes. One copy serves all backward uses, placed before the first.
pub fn recompute_cheap_values(graph: &mut Graph, first_backward: usize, outputs: &[ValueId]) {
    let makers: BTreeMap<ValueId, usize> = graph.nodes[..first_backward]
        .iter()
        .enumerate()
        .filter(|(_, n)| n.op.is_cheap() && n.op.layout() == Layout::Fresh && n.outputs.len() == 1)
        .map(|(i, n)| (n.outputs[0], i))
        .filter(|(v, _)| !outputs.contains(v))
        .collect();
    let backward = graph.nodes.split_off(first_backward);
    let mut copies: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for mut node in backward {
        for input in &mut node.inputs {
            let Some(&maker) = makers.get(input) else {
                continue;
            };
            let original = *input;
            *input = match copies.get(&original) {
                Some(&copy) => copy,
                None => {
                    let copy = clone_node(graph, maker);
                    copies.insert(original, copy);
                    copy
                }
            };
        }
        graph.nodes.push(node);
    }
}

fn clone_node(graph: &mut Graph, maker: usize) -> ValueId {
    let node = graph.nodes[maker].clone();
    let value = graph.value(node.outputs[0]);
    let copy = graph.push(Value {
        shape: value.shape,
        role: Role::Computed,
        name: format!("{} (again)", value.name),
    });
    graph.nodes.push(Node {
        outputs: vec![copy],
        ..node
    });
    copy
}
