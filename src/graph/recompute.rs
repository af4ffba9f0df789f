//! Recomputation: forward values that are made again in the backward part instead of being kept over the whole step.
//!
//! A value is dropped with all that shares its storage, its *family*: a concatenation with the inputs that are made inside
//! it, a tensor with its views. A dropped value is made again by the same operators from the same inputs, before its
//! first use in the backward part, and once more where a later use is far away, so that the results are bit for bit
//! those of a run that keeps everything (Chen et al. 2016, "Training deep nets with sublinear memory cost").

use std::collections::{BTreeMap, BTreeSet};

use super::placement::place;
use super::{Graph, Node, Role, Value};
use crate::ops::ValueId;

/// Nodes of the backward part over which a value that was made again is kept for its next use.
pub(super) const REACH: usize = 8;

/// What values that are no plain map of others may cost to make again without a budget: at the most so many
/// operations for each byte, all of them together such a share of the operations of the forward part.
const CHEAP_FLOPS_PER_BYTE: f64 = 64.0;
const CHEAP_SHARE: f64 = 0.03;

/// Values that share storage and are dropped together.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The values, in the order in which they are made.
    pub members: Vec<ValueId>,
    /// Bytes of the storage.
    pub bytes: u64,
    /// Floating point operations of making it again once, from inputs that are at hand.
    pub flops: f64,
    /// Whether every member is a plain map of its inputs, or a view.
    pub(super) is_cheap: bool,
    /// Nodes between the last use in the forward part and the first in the backward part.
    gap: usize,
}

/// The forward part of a graph, whose first `first_backward` nodes it is, as far as recomputation is concerned.
#[derive(Debug)]
pub struct Recomputation<'a> {
    graph: &'a Graph,
    first_backward: usize,
    makers: BTreeMap<ValueId, usize>,
    families: BTreeMap<ValueId, Family>,
}

impl<'a> Recomputation<'a> {
    /// Finds what can be made again: all that is made of single outputs, is used on both sides, and neither is fetched nor
    /// depends on a state that the forward part updates.
    pub fn new(graph: &'a Graph, first_backward: usize, outputs: &[ValueId]) -> Self {
        let updated = updated_values(&graph.nodes[..first_backward]);
        let makers: BTreeMap<ValueId, usize> = graph.nodes[..first_backward]
            .iter()
            .enumerate()
            .filter(|(_, n)| n.outputs.len() == 1 && n.op.updates().is_empty())
            .filter(|(_, n)| n.inputs.iter().all(|i| !updated.contains(i)))
            .map(|(i, n)| (n.outputs[0], i))
            .collect();
        let mut found = Self {
            graph,
            first_backward,
            makers,
            families: BTreeMap::new(),
        };
        found.families = found.find_families(outputs);
        found
    }

    /// The graph in which nothing is made again.
    pub(super) fn graph(&self) -> &Graph {
        self.graph
    }

    /// What can be dropped, by the value whose storage it is.
    pub fn families(&self) -> &BTreeMap<ValueId, Family> {
        &self.families
    }

    /// The families that are dropped without a budget: plain maps, and what costs next to nothing.
    pub fn cheap(&self) -> BTreeSet<ValueId> {
        let forward = &self.graph.nodes[..self.first_backward];
        let mut left = CHEAP_SHARE * forward.iter().map(|n| self.flops(n)).sum::<f64>();
        let mut list: Vec<(&ValueId, &Family)> = self
            .families
            .iter()
            .filter(|(_, f)| f.gap > REACH && (f.is_cheap || f.rate() <= CHEAP_FLOPS_PER_BYTE))
            .collect();
        list.sort_by(|a, b| a.1.rate().total_cmp(&b.1.rate()).then(a.0.cmp(b.0)));
        list.into_iter()
            .filter(|(_, family)| {
                let affordable = family.is_cheap || family.flops <= left;
                if affordable && !family.is_cheap {
                    left -= family.flops;
                }
                affordable
            })
            .map(|(&root, _)| root)
            .collect()
    }

    /// The graph in which the families of `dropped` are made again in the backward part, and what that costs a run in
    /// floating point operations.
    pub fn apply(&self, dropped: &BTreeSet<ValueId>) -> (Graph, f64) {
        let within = dropped.iter().map(|&root| (root, REACH)).collect();
        let Applied { graph, flops, .. } = self.apply_within(&within);
        (graph, flops)
    }

    /// [`Recomputation::apply`] with what was made again of each family kept over at the most so many nodes for its next use.
    pub(super) fn apply_within(&self, dropped: &BTreeMap<ValueId, usize>) -> Applied {
        let mut rewrite = Rewrite {
            plan: self,
            dropped: BTreeMap::new(),
            graph: self.graph.clone(),
            copies: BTreeMap::new(),
            copied: BTreeMap::new(),
            flops: 0.0,
        };
        for (&root, &reach) in dropped {
            for &member in self.families.get(&root).iter().flat_map(|f| &f.members) {
                rewrite.dropped.insert(member, Dropped { root, reach });
            }
        }
        let backward = rewrite.graph.nodes.split_off(self.first_backward);
        for (at, mut node) in backward.into_iter().enumerate() {
            for input in &mut node.inputs {
                *input = rewrite.at_hand(*input, at);
            }
            rewrite.graph.nodes.push(node);
        }
        Applied {
            graph: rewrite.graph,
            flops: rewrite.flops,
            copied: rewrite.copied,
        }
    }

    fn flops(&self, node: &Node) -> f64 {
        let shapes = |ids: &[ValueId]| -> Vec<_> {
            ids.iter().map(|&i| self.graph.value(i).shape).collect()
        };
        node.op
            .cost(&shapes(&node.inputs), &shapes(&node.outputs))
            .flops
    }

    fn find_families(&self, outputs: &[ValueId]) -> BTreeMap<ValueId, Family> {
        let placements = place(self.graph, outputs, false);
        let uses = Uses::of(self.graph, self.first_backward);
        let fetched: BTreeSet<ValueId> = outputs
            .iter()
            .map(|o| placements[o.0 as usize].root)
            .collect();
        let mut members: BTreeMap<ValueId, Vec<ValueId>> = BTreeMap::new();
        for node in &self.graph.nodes[..self.first_backward] {
            for &output in &node.outputs {
                let root = placements[output.0 as usize].root;
                members.entry(root).or_default().push(output);
            }
        }
        members
            .into_iter()
            .filter(|(root, members)| {
                self.graph.value(*root).role == Role::Computed
                    && !fetched.contains(root)
                    && members.iter().all(|m| self.makers.contains_key(m))
            })
            .filter_map(|(root, members)| {
                let first = members.iter().filter_map(|m| uses.backward.get(m)).min()?;
                let last = members.iter().filter_map(|m| uses.forward.get(m)).max()?;
                let makers = || members.iter().map(|m| &self.graph.nodes[self.makers[m]]);
                let family = Family {
                    bytes: self.graph.value(root).bytes(),
                    flops: makers().map(|n| self.flops(n)).sum(),
                    is_cheap: makers().all(|n| n.op.is_cheap() || self.flops(n) == 0.0),
                    gap: first - last,
                    members,
                };
                Some((root, family))
            })
            .collect()
    }
}

impl Family {
    /// Operations for each byte.
    pub fn rate(&self) -> f64 {
        self.flops / self.bytes.max(1) as f64
    }
}

fn updated_values(nodes: &[Node]) -> BTreeSet<ValueId> {
    nodes
        .iter()
        .flat_map(|n| n.op.updates().iter().map(|&i| n.inputs[i]))
        .collect()
}

/// Nodes that use a value: the last of the forward part (or the one that makes it) and the first of the backward part.
struct Uses {
    forward: BTreeMap<ValueId, usize>,
    backward: BTreeMap<ValueId, usize>,
}

impl Uses {
    fn of(graph: &Graph, first_backward: usize) -> Self {
        let (mut forward, mut backward) = (BTreeMap::new(), BTreeMap::new());
        for (at, node) in graph.nodes.iter().enumerate() {
            for &value in node.inputs.iter().chain(&node.outputs) {
                if at < first_backward {
                    forward.insert(value, at);
                } else {
                    backward.entry(value).or_insert(at);
                }
            }
        }
        Self { forward, backward }
    }
}

/// A graph in which families are made again.
pub(super) struct Applied {
    pub graph: Graph,
    /// What that costs a run in floating point operations.
    pub flops: f64,
    /// The family, by the value whose storage it is, of each value that is a copy.
    pub copied: BTreeMap<ValueId, ValueId>,
}

/// The family of a value, and over how many nodes a copy is kept for its next use.
#[derive(Clone, Copy)]
struct Dropped {
    root: ValueId,
    reach: usize,
}

/// A graph whose backward part is being written anew.
struct Rewrite<'a> {
    plan: &'a Recomputation<'a>,
    dropped: BTreeMap<ValueId, Dropped>,
    graph: Graph,
    /// The copy of a value and the position in the backward part of its latest use.
    copies: BTreeMap<ValueId, (ValueId, usize)>,
    copied: BTreeMap<ValueId, ValueId>,
    flops: f64,
}

impl Rewrite<'_> {
    /// `value` itself where it is kept, else a copy for the use at node `at` of the backward part.
    fn at_hand(&mut self, value: ValueId, at: usize) -> ValueId {
        let Some(&Dropped { root, reach }) = self.dropped.get(&value) else {
            return value;
        };
        let near = self
            .copies
            .get(&value)
            .filter(|(_, used)| at - used <= reach);
        let copy = match near {
            Some(&(copy, _)) => copy,
            None => self.make_again(value, at),
        };
        self.copied.insert(copy, root);
        self.copies.insert(value, (copy, at));
        copy
    }

    fn make_again(&mut self, value: ValueId, at: usize) -> ValueId {
        let mut node = self.plan.graph.nodes[self.plan.makers[&value]].clone();
        self.flops += self.plan.flops(&node);
        for input in &mut node.inputs {
            *input = self.at_hand(*input, at);
        }
        let original = self.graph.value(value);
        let copy = Value {
            shape: original.shape,
            element: original.element,
            role: Role::Computed,
            axes: original.axes,
            name: format!("{} (again)", original.name),
        };
        let copy = self.graph.push(copy);
        node.outputs = vec![copy];
        self.graph.nodes.push(node);
        copy
    }
}
