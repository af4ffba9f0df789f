//! What depthwise separable convolutions save (Howard et al. 2017, MobileNets, section 3.1).

use std::collections::BTreeMap;

use super::{Graph, Node};
use crate::ops::ValueId;
use crate::tensor::Shape;

/// The pairs of a depthwise and a pointwise convolution in a graph, beside full convolutions in the place of each pair.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct SeparableSaving {
    /// Pairs.
    pub pairs: usize,
    /// Multiply-adds of the pairs, as the nodes count them.
    pub madds: f64,
    /// Multiply-adds of full convolutions with the windows of the depthwise ones, from the same channels to the same.
    pub full_madds: f64,
    /// The least and the largest 1/N + 1/k of a pair, N channels out and k taps: the share by the paper's formula.
    pub formula: [f64; 2],
}

/// Operators between the two convolutions of a pair: they change values, not which voxel or channel they belong to.
const BETWEEN: [&str; 4] = [
    "norm.apply",
    "activation.forward",
    "dropout.apply",
    "elementwise.scale_channels",
];

const CONV: &str = "conv.forward";

impl Graph {
    /// What its depthwise separable convolutions save; `None` where it has none. Inverted residuals have such pairs too:
    /// their filter and their projection.
    pub fn separable_saving(&self) -> Option<SeparableSaving> {
        let mut readers: BTreeMap<ValueId, Vec<&Node>> = BTreeMap::new();
        for node in self.nodes() {
            if let Some(&first) = node.inputs.first() {
                readers.entry(first).or_default().push(node);
            }
        }
        let pairs: Vec<[f64; 3]> = self
            .nodes()
            .iter()
            .filter(|node| self.is_depthwise(node))
            .filter_map(|node| Some((node, self.pointwise_after(node, &readers)?)))
            .map(|(depthwise, pointwise)| self.pair(depthwise, pointwise))
            .collect();
        if pairs.is_empty() {
            return None;
        }
        let formula = pairs.iter().map(|pair| pair[2]);
        Some(SeparableSaving {
            pairs: pairs.len(),
            madds: pairs.iter().map(|pair| pair[0]).sum(),
            full_madds: pairs.iter().map(|pair| pair[1]).sum(),
            formula: [
                formula.clone().fold(f64::INFINITY, f64::min),
                formula.fold(0.0, f64::max),
            ],
        })
    }

    /// The input, the weight and the output of a convolution.
    fn convolution(&self, node: &Node) -> Option<[Shape; 3]> {
        let shape = |id: &ValueId| self.value(*id).shape;
        match (node.op.name(), &node.inputs[..], &node.outputs[..]) {
            (CONV, [x, w, ..], [y]) => Some([shape(x), shape(w), shape(y)]),
            _ => None,
        }
    }

    /// Whether each of several channels has a window of several taps to itself.
    fn is_depthwise(&self, node: &Node) -> bool {
        self.convolution(node)
            .is_some_and(|[x, w, y]| w.c() == 1 && x.c() > 1 && y.c() == x.c() && w.voxels() > 1)
    }

    /// The convolution of single voxels that reads what the depthwise one makes.
    fn pointwise_after<'a>(
        &self,
        depthwise: &Node,
        readers: &BTreeMap<ValueId, Vec<&'a Node>>,
    ) -> Option<&'a Node> {
        let mut value = *depthwise.outputs.first()?;
        loop {
            let next = readers.get(&value)?;
            let is_pointwise = |node: &&&Node| {
                self.convolution(node)
                    .is_some_and(|[x, w, _]| w.voxels() == 1 && w.c() == x.c())
            };
            if let Some(found) = next.iter().find(is_pointwise) {
                return Some(found);
            }
            let passes = next.iter().find(|node| BETWEEN.contains(&node.op.name()))?;
            value = *passes.outputs.first()?;
        }
    }

    /// Multiply-adds of a pair, those of a full convolution, and the formula's share.
    fn pair(&self, depthwise: &Node, pointwise: &Node) -> [f64; 3] {
        let madds = |node: &Node| self.cost(node).flops / 2.0;
        let taps = self.value(depthwise.inputs[1]).shape.voxels() as f64;
        let channels = self.value(pointwise.outputs[0]).shape.c() as f64;
        let full = madds(pointwise) * taps;
        [
            madds(depthwise) + madds(pointwise),
            full,
            1.0 / channels + 1.0 / taps,
        ]
    }
}
