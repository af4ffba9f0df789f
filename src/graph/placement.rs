//! Where each value lies: storage of its own, or a part of another value's (views, concatenations made in place, and
//! outputs that take over the storage of an input).

use super::{Graph, Node, Role};
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
    tie: Tie,
}

/// Why a value lies in another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tie {
    /// It is a view, which cannot be undone.
    View,
    /// A concatenation is made of it; taken out again, it is copied.
    Concat,
    /// Its node writes it over an input; or it is the input that is written over, and lies from the start where the output
    /// has its place.
    TakeOver,
}

/// Places all values. With `in_place`, outputs take over the storage of inputs that die at their node.
pub(super) fn place(graph: &Graph, outputs: &[ValueId], in_place: bool) -> Vec<Placement> {
    let mut parents = views(graph);
    place_concat_inputs(graph, &mut parents);
    while let Some(culprit) = find_conflict(graph, &parents) {
        parents[culprit.0 as usize] = None;
    }
    if in_place {
        take_over(graph, outputs, &mut parents);
    }
    (0..graph.values.len() as u32)
        .map(|i| resolve(graph, &parents, ValueId(i)))
        .collect()
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
            tie: Tie::View,
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
            let alike = value.element == graph.value(node.outputs[0]).element;
            if value.role == Role::Computed && alike && slot.is_none() {
                *slot = Some(Parent {
                    value: node.outputs[0],
                    offset,
                    tie: Tie::Concat,
                });
            }
            offset += value.shape.per_sample();
        }
    }
}

/// A kernel may not bind one buffer both to read and to write. Gives a concatenation input whose removal helps.
fn find_conflict(graph: &Graph, parents: &[Option<Parent>]) -> Option<ValueId> {
    graph
        .nodes
        .iter()
        .filter_map(|node| conflict_at(graph, parents, node))
        .find_map(|culprit| concat_ancestor(parents, culprit))
}

fn conflict_at(graph: &Graph, parents: &[Option<Parent>], node: &Node) -> Option<ValueId> {
    match node.op.layout() {
        Layout::Fresh => written_over(graph, parents, node),
        Layout::ConcatChannels => misplaced(graph, parents, node),
        Layout::SliceChannels { .. } | Layout::Reshape => None,
    }
}

/// An input of a concatenation that lies in the storage of its output, but not where the output wants it: one that
/// stands there twice, or that is part of another concatenation, or of another input, as well. A copy would have to
/// read the buffer that it writes.
fn misplaced(graph: &Graph, parents: &[Option<Parent>], node: &Node) -> Option<ValueId> {
    let mut wanted = resolve(graph, parents, node.outputs[0]);
    node.inputs.iter().copied().find(|&input| {
        let found = resolve(graph, parents, input);
        let wrong = found.root == wanted.root && found != wanted;
        wanted.offset += graph.value(input).shape.per_sample();
        wrong
    })
}

/// An output of `node` that lies in the storage of an input, neither of which took over that of the other.
fn written_over(graph: &Graph, parents: &[Option<Parent>], node: &Node) -> Option<ValueId> {
    let root = |v| resolve(graph, parents, v).root;
    node.outputs.iter().copied().find(|&output| {
        let taken_by = |v: ValueId| {
            let parent = parents[v.0 as usize].filter(|p| p.tie == Tie::TakeOver);
            parent.map(|p| p.value)
        };
        let mut inputs = node.inputs.iter().copied();
        let own = taken_by(output).filter(|v| node.inputs.contains(v));
        let taken = own.or_else(|| inputs.find(|&i| taken_by(i) == Some(output)));
        let sharing = |&&i: &&ValueId| root(i) == root(output);
        let inputs: Vec<&ValueId> = node.inputs.iter().filter(sharing).collect();
        match taken {
            Some(value) => inputs != [&value],
            None => !inputs.is_empty(),
        }
    })
}

/// The nearest value on the way up from `value` that lies in a concatenation's output.
fn concat_ancestor(parents: &[Option<Parent>], mut value: ValueId) -> Option<ValueId> {
    while let Some(parent) = parents[value.0 as usize] {
        if parent.tie == Tie::Concat {
            return Some(value);
        }
        value = parent.value;
    }
    None
}

/// Lets each first output take over an input where the operator allows it, the input fills its storage, and nothing
/// in that storage is touched afterwards.
fn take_over(graph: &Graph, outputs: &[ValueId], parents: &mut [Option<Parent>]) {
    let mut last = last_touches(graph, outputs, parents);
    for (at, node) in graph.nodes.iter().enumerate() {
        let Some(&output) = node.outputs.first() else {
            continue;
        };
        for index in node.op.in_place() {
            let input = node.inputs[index];
            let root = resolve(graph, parents, input).root;
            let fills = graph.value(root).shape.len() == graph.value(input).shape.len()
                && graph.value(input).shape == graph.value(output).shape
                && graph.value(input).element == graph.value(output).element;
            let dies = last[root.0 as usize] == Some(at);
            let computed = graph.value(root).role == Role::Computed;
            if dies && computed && move_in(graph, parents, (at, input, output)) {
                break;
            }
            if !(fills && dies && computed && parents[output.0 as usize].is_none()) {
                continue;
            }
            parents[output.0 as usize] = Some(Parent {
                value: input,
                offset: 0,
                tie: Tie::TakeOver,
            });
            // What is touched after the node does not lie in the old storage, so only the node itself can conflict.
            if conflict_at(graph, parents, node).is_some() {
                parents[output.0 as usize] = None;
                continue;
            }
            last[root.0 as usize] = last[output.0 as usize];
            break;
        }
    }
}

/// Lets an input that has storage of its own lie from the start where the output of its last node, `at`, has a place
/// in another's, if no node on the way then reads and writes one storage. The output's place is not in use before.
fn move_in(
    graph: &Graph,
    parents: &mut [Option<Parent>],
    (at, input, output): (usize, ValueId, ValueId),
) -> bool {
    let [from, to] = [input, output].map(|v| graph.value(v));
    let alike = (from.shape, from.element) == (to.shape, to.element);
    let may = parents[input.0 as usize].is_none() && parents[output.0 as usize].is_some();
    if !(alike && may) || resolve(graph, parents, output).root == input {
        return false;
    }
    parents[input.0 as usize] = Some(Parent {
        value: output,
        offset: 0,
        tie: Tie::TakeOver,
    });
    let nodes = graph.nodes[..=at].iter();
    let touching = |node: &&Node| {
        let mut values = node.inputs.iter().chain(&node.outputs);
        values.any(|&v| lies_in(parents, v, input))
    };
    let is_fine = nodes
        .filter(touching)
        .all(|node| conflict_at(graph, parents, node).is_none());
    if !is_fine {
        parents[input.0 as usize] = None;
    }
    is_fine
}

/// Whether `value` is `whole` or lies in it.
fn lies_in(parents: &[Option<Parent>], mut value: ValueId, whole: ValueId) -> bool {
    while value != whole {
        match parents[value.0 as usize] {
            Some(parent) => value = parent.value,
            None => return false,
        }
    }
    true
}

/// The last node that touches anything in the storage of each root; beyond the nodes for what is fetched.
fn last_touches(
    graph: &Graph,
    outputs: &[ValueId],
    parents: &[Option<Parent>],
) -> Vec<Option<usize>> {
    let mut last = vec![None; graph.values.len()];
    let mut touch = |value: ValueId, at: usize| {
        last[resolve(graph, parents, value).root.0 as usize] = Some(at);
    };
    for (at, node) in graph.nodes.iter().enumerate() {
        for &value in node.inputs.iter().chain(&node.outputs) {
            touch(value, at);
        }
    }
    for &output in outputs {
        touch(output, graph.nodes.len());
    }
    last
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
        base: 0,
        offset: at.offset as u32,
        batch_stride: at.batch_stride as u32,
        element: graph.value(value).element,
    }
}
