//! What a program is made of, as a table's rows: for `voxseg inspect`.

use super::{Graph, Node, Program, Resident, Role};
use crate::ops::{Cost, ValueId};
use crate::tensor::Shape;

/// One node of a program.
#[derive(Clone, Debug, serde::Serialize)]
pub struct NodeSummary {
    /// Where it stands in the network.
    pub name: String,
    /// The operator, `conv.forward`.
    pub op: &'static str,
    /// Extent (N, C, D, H, W) of its first output; empty for updates in place.
    pub shape: Option<[usize; 5]>,
    /// Elements of the trained parameters that it reads.
    pub parameters: usize,
    /// Multiply-adds (half the floating point operations).
    pub madds: f64,
    /// Bytes read and written at the least.
    pub bytes: f64,
    /// The kernels that run, in order.
    pub kernels: Vec<&'static str>,
}

/// Sums over a program.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct ProgramSummary {
    /// Elements of all trained parameters.
    pub parameters: usize,
    /// Multiply-adds of one run.
    pub madds: f64,
    /// Dispatches of one run.
    pub dispatches: usize,
    /// Buffers that the activations and scratch space share.
    pub slots: usize,
    /// Bytes of those buffers.
    pub slot_bytes: u64,
    /// The most bytes of activations and scratch space alive at once; no plan can need less.
    pub peak_bytes: u64,
    /// Bytes of the trained parameters.
    pub parameter_bytes: u64,
    /// Bytes of what is kept from run to run without being trained: moments of the optimiser, running statistics.
    pub state_bytes: u64,
    /// Bytes of what the host writes before a run.
    pub input_bytes: u64,
    /// Bytes of parameters, states and inputs.
    pub persistent_bytes: u64,
    /// All of it: the device memory that a run needs.
    pub total_bytes: u64,
}

impl Graph {
    /// Multiply-adds of its convolutions, matrix products and attentions: what the figures of published networks count.
    pub fn product_madds(&self) -> f64 {
        let products = self.nodes().iter().filter(|node| {
            let family = node.op.name().split('.').next();
            matches!(family, Some("conv" | "matmul" | "attention"))
        });
        products.map(|node| self.cost(node).flops).sum::<f64>() / 2.0
    }

    /// What a node's definition needs: its operations, and the bytes of its operands as they are stored.
    pub(super) fn cost(&self, node: &Node) -> Cost {
        let shapes = |ids: &[ValueId]| -> Vec<Shape> {
            ids.iter().map(|&id| self.value(id).shape).collect()
        };
        let mut cost = node.op.cost(&shapes(&node.inputs), &shapes(&node.outputs));
        // Operators count four bytes an element.
        let operands = || node.inputs.iter().chain(&node.outputs);
        let values = || operands().map(|&i| self.value(i));
        let stored: f64 = values().map(|v| v.bytes() as f64).sum();
        let single: f64 = values().map(|v| v.shape.bytes() as f64).sum();
        if single > 0.0 {
            cost.bytes *= stored / single;
        }
        cost
    }

    /// Bytes of parameters, states and inputs.
    pub(super) fn persistent_bytes(&self) -> u64 {
        self.bytes_of(|role| *role != Role::Computed)
    }

    /// Bytes of the values with a role of which `counts` holds.
    fn bytes_of(&self, counts: impl Fn(&Role) -> bool) -> u64 {
        let values = self.values().filter(|(_, v)| counts(&v.role));
        values.map(|(_, v)| v.bytes()).sum()
    }
}

impl Program {
    /// The nodes in running order.
    pub fn nodes(&self) -> Vec<NodeSummary> {
        let graph = self.graph();
        let mut rows: Vec<NodeSummary> = graph
            .nodes()
            .iter()
            .enumerate()
            .map(|(i, node)| {
                let cost = self.cost(i);
                let trained = node.inputs.iter().map(|&v| graph.value(v));
                NodeSummary {
                    name: node.name.clone(),
                    op: node.op.name(),
                    shape: node.outputs.first().map(|&o| graph.value(o).shape.0),
                    parameters: trained
                        .filter(|v| matches!(v.role, Role::Parameter(_)))
                        .map(|v| v.shape.len())
                        .sum(),
                    madds: cost.flops / 2.0,
                    bytes: cost.bytes,
                    kernels: Vec::new(),
                }
            })
            .collect();
        for step in &self.steps {
            rows[step.node].kernels.push(step.dispatch.kernel.name);
        }
        rows
    }

    /// Every tensor and scratch buffer of the memory plan.
    pub fn residents(&self) -> &[Resident] {
        &self.residents
    }

    /// The node at which most bytes are alive, the first of several; what is alive there, the largest first.
    pub fn residents_at_peak(&self) -> (usize, Vec<&Resident>) {
        let alive = |at: usize| {
            self.residents
                .iter()
                .filter(move |r| r.first <= at && at <= r.last)
        };
        let bytes = |at: usize| -> u64 { alive(at).map(|r| r.bytes).sum() };
        let peak = (0..=self.graph().nodes().len())
            .max_by_key(|&at| (bytes(at), std::cmp::Reverse(at)))
            .unwrap_or(0);
        let mut residents: Vec<&Resident> = alive(peak).collect();
        residents.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        (peak, residents)
    }

    /// The sums.
    pub fn summary(&self) -> ProgramSummary {
        let trained = self.graph().parameters().map(|(_, v)| v.shape.len());
        ProgramSummary {
            parameters: trained.sum(),
            madds: (0..self.graph().nodes().len())
                .map(|i| self.cost(i).flops / 2.0)
                .sum(),
            dispatches: self.dispatch_count(),
            slots: self.memory_plan().slots.len(),
            slot_bytes: self.memory_plan().total_bytes(),
            peak_bytes: self.peak_bytes(),
            parameter_bytes: self
                .graph()
                .bytes_of(|role| matches!(role, Role::Parameter(_))),
            state_bytes: self.graph().bytes_of(|role| matches!(role, Role::State(_))),
            input_bytes: self.graph().bytes_of(|role| *role == Role::Input),
            persistent_bytes: self.persistent_bytes(),
            total_bytes: self.total_bytes(),
        }
    }
}

impl NodeSummary {
    /// The extent as text, `-` where there is none.
    pub fn shape_text(&self) -> String {
        self.shape.map_or("-".to_owned(), |s| Shape(s).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::DeviceProfile;
    use crate::graph::{Graph, ProgramOptions};
    use crate::ops::elementwise::add;

    #[test]
    fn the_residents_at_the_peak_are_what_makes_it() {
        let mut graph = Graph::new();
        let a = graph.input("a", Shape::vector(1000)).unwrap();
        let b = add(&mut graph, a, a).unwrap();
        let c = add(&mut graph, b, a).unwrap();
        let d = add(&mut graph, c, b).unwrap();
        let device = DeviceProfile::minimal_gpu();
        let program = Program::compile(graph, &[d], &device, ProgramOptions::default()).unwrap();
        // The last sum is written over one of its operands.
        assert_eq!(program.residents().len(), 2);
        let (node, alive) = program.residents_at_peak();
        assert_eq!((node, alive.len()), (1, 2));
        let bytes: u64 = alive.iter().map(|r| r.bytes).sum();
        assert_eq!(bytes, program.peak_bytes());
        assert_ne!(alive[0].slot, alive[1].slot);
    }
}
