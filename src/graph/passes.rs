//! What depends on what, and a pass that makes a graph smaller before it is planned.

use std::collections::BTreeSet;

use super::Graph;
use crate::ops::ValueId;

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

/// All values that `output` depends on, itself among them.
pub fn values_behind(graph: &Graph, output: ValueId) -> BTreeSet<ValueId> {
    let mut behind = BTreeSet::from([output]);
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|o| behind.contains(o)) {
            behind.extend(&node.inputs);
        }
    }
    behind
}
