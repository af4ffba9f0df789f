//! Where each value lies: storage of its own, or a part of another value's (views, and concatenations made in place).

use super::{Graph, GraphError, Role};
use crate::ops::{BufferRef, Layout, Operand, ValueId};

/// A value inside the storage of `root`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Placement {
    pub root: ValueId,
    pub offset: usize,
    pub batch_stride: usize,
}

/// A value inside its parent, `offset` in elements of one sample.
#[derive(Clone, Copy)]
struct Parent {
    value: ValueId,
    offset: usize,
    /// A concatenation's input can be taken out again (it is then copied); a view cannot.
    is_concat: bool,
}

/// Places all values.
pub(super) fn place(graph: &Graph) -> Result<Vec<Placement>, GraphError> {
    let mut parents = views(graph);
    place_concat_inputs(graph, &mut parents);
    while let Some(culprit) = find_conflict(graph, &parents) {
        parents[culprit.0 as usize] = None;
    }
    Ok((0..graph.values.len() as u32)
        .map(|i| resolve(graph, &parents, ValueId(i)))
        .collect())
}

fn views(graph: &Graph) -> Vec<Option<Parent>> {
    let mut parents = vec![None; graph.values.len()];
    for node in &graph.nodes {
        let offset = match node.op.layout() {
            Layout::SliceChannels { start } => start * graph.value(node.inputs[0]).shape.voxels(),
            Layout::Reshape => 0,
            Layout::Fresh | Layout::ConcatChannels => continue,
        };
        parents[node.outputs[0].0 as usize] = Some(Parent {
            value: node.inputs[0],
            offset,
            is_concat: false,
        });
    }
    parents
}

/// Makes each concatenation's inputs part of its output: those computed here that are not part of something already.
fn place_concat_inputs(graph: &Graph, parents: &mut [Option<Parent>]) {
    for node in &graph.nodes {
        if node.op.layout() != Layout::ConcatChannels {
            continue;
        }
        let mut offset = 0;
        for &input in &node.inputs {
            let value = graph.value(input);
            let slot = &mut parents[input.0 as usize];
            if value.role == Role::Computed && slot.is_none() {
                *slot = Some(Parent {
                    value: node.outputs[0],
                    offset,
                    is_concat: true,
                });
            }
            offset += value.shape.per_sample();
        }
    }
}

/// A kernel may not bind one buffer both to read and to write. Gives a concatenation input whose removal helps.
fn find_conflict(graph: &Graph, parents: &[Option<Parent>]) -> Option<ValueId> {
    let root = |v| resolve(graph, parents, v).root;
    for node in &graph.nodes {
        if node.op.layout() != Layout::Fresh {
            continue;
        }
        for &output in &node.outputs {
            if node.inputs.iter().any(|&i| root(i) == root(output)) {
                return concat_ancestor(parents, output);
            }
        }
    }
    None
}

/// The nearest value on the way up from `value` that lies in a concatenation's output.
fn concat_ancestor(parents: &[Option<Parent>], mut value: ValueId) -> Option<ValueId> {
    while let Some(parent) = parents[value.0 as usize] {
        if parent.is_concat {
            return Some(value);
        }
        value = parent.value;
    }
    None
}

fn resolve(graph: &Graph, parents: &[Option<Parent>], value: ValueId) -> Placement {
    let (mut root, mut offset) = (value, 0);
    while let Some(parent) = parents[root.0 as usize] {
        offset += parent.offset;
        root = parent.value;
    }
    Placement {
        root,
        offset,
        batch_stride: graph.value(root).shape.per_sample(),
    }
}

/// The operand that kernels see.
pub(super) fn operand(graph: &Graph, placements: &[Placement], value: ValueId) -> Operand {
    let at = placements[value.0 as usize];
    Operand {
        buffer: BufferRef::Value(at.root),
        shape: graph.value(value).shape,
        offset: at.offset as u32,
        batch_stride: at.batch_stride as u32,
    }
}
