//! Reverse-mode differentiation by the operators' own backward rules.

use std::collections::BTreeMap;

use super::{Graph, GraphError, Role};
use crate::ops::elementwise::add;
use crate::ops::{Backward, ValueId};

/// Appends the backward nodes for `loss` and gives the gradient of each of `wanted` that the loss depends on.
///
/// `seed` is dL/dL: a value of the shape of `loss` (an input holding 1, or a loss weight or scale). Where a value feeds
/// several nodes its gradients are added in the reverse order of those nodes, so that the order is fixed.
///
/// # Errors
/// [`GraphError::Node`] where an operator on the way has no gradient.
pub fn differentiate(
    graph: &mut Graph,
    loss: ValueId,
    seed: ValueId,
    wanted: &[ValueId],
) -> Result<BTreeMap<ValueId, ValueId>, GraphError> {
    let needs = depends_on(graph, wanted);
    let mut grads: BTreeMap<ValueId, ValueId> = BTreeMap::from([(loss, seed)]);
    for position in (0..graph.nodes.len()).rev() {
        let node = graph.nodes[position].clone();
        let upstream: Vec<Option<ValueId>> =
            node.outputs.iter().map(|o| grads.get(o).copied()).collect();
        let wants: Vec<bool> = node.inputs.iter().map(|i| needs[i.0 as usize]).collect();
        if upstream.iter().all(Option::is_none) || !wants.contains(&true) {
            continue;
        }
        let io = Backward {
            inputs: &node.inputs,
            outputs: &node.outputs,
            grads: &upstream,
            needs: &wants,
        };
        let outer = std::mem::replace(&mut graph.scope, vec![node.name.clone()]);
        let result = accumulate(graph, &node, &io, &mut grads);
        graph.scope = outer;
        result?;
    }
    grads.retain(|value, _| wanted.contains(value));
    Ok(grads)
}

fn accumulate(
    graph: &mut Graph,
    node: &super::Node,
    io: &Backward<'_>,
    grads: &mut BTreeMap<ValueId, ValueId>,
) -> Result<(), GraphError> {
    let found = node.op.backward(graph, io).map_err(|e| graph.blame(e))?;
    for ((&input, grad), &wanted) in node.inputs.iter().zip(found).zip(io.needs) {
        let (Some(grad), true) = (grad, wanted) else {
            continue;
        };
        let total = match grads.get(&input) {
            Some(&earlier) => add(graph, earlier, grad).map_err(|e| graph.blame(e))?,
            None => grad,
        };
        grads.insert(input, total);
    }
    Ok(())
}

/// For each value whether it depends on one of `sources`.
fn depends_on(graph: &Graph, sources: &[ValueId]) -> Vec<bool> {
    let mut depends = vec![false; graph.values.len()];
    for source in sources {
        depends[source.0 as usize] = true;
    }
    for node in &graph.nodes {
        if node.inputs.iter().any(|i| depends[i.0 as usize]) {
            for output in &node.outputs {
                depends[output.0 as usize] = true;
            }
        }
    }
    depends
}

impl Graph {
    /// All trained parameters, as `wanted` of [`differentiate`].
    pub fn trainable(&self) -> Vec<ValueId> {
        self.values()
            .filter(|(_, v)| matches!(v.role, Role::Parameter(_)))
            .map(|(id, _)| id)
            .collect()
    }
}
