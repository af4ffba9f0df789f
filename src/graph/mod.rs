//! The static graph: build, differentiate, simplify, plan memory, record, run.

mod axes;
mod budget;
mod differentiate;
mod draft;
mod error;
mod executor;
mod init;
mod joins;
mod limits;
mod lower;
mod passes;
mod placement;
mod plan;
mod profile;
mod program;
mod recompute;
mod separable;
mod store;
mod streaming;
mod summary;
mod tenants;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use axes::Axes;
pub use budget::{Recomputed, compile_training};
pub use differentiate::differentiate;
pub use error::GraphError;
pub use executor::{Executor, NodeTime};
pub use init::Init;
pub use passes::{remove_dead_nodes, values_behind};
pub use plan::{MemoryPlan, Part, Place, Request, Rules, peak_bytes, plan_memory};
pub use profile::{OperatorTime, Profile};
pub use program::{Program, ProgramOptions, Resident};
pub use recompute::{Family, Recomputation};
pub use separable::SeparableSaving;
pub use store::{Parameters, StoredTensor};
pub use summary::{NodeSummary, ProgramSummary};

use crate::ops::{Build, Layout, OpError, Operator, ValueId};
use crate::tensor::{Element, Shape};

/// The most bytes of a tensor: kernels number its elements by u32.
const MOST_BYTES: u64 = 4 * u32::MAX as u64;

/// What a value is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// Written by the host before a run.
    Input,
    /// Trained; kept from run to run, stored in checkpoints.
    Parameter(Init),
    /// Kept from run to run and stored in checkpoints, but not trained: running statistics, optimiser moments.
    State(Init),
    /// Made by a node in each run.
    Computed,
}

/// A value of the graph: a tensor.
#[derive(Clone, Debug)]
pub struct Value {
    /// Extent (N, C, D, H, W).
    pub shape: Shape,
    /// How its elements are stored; f32 but for what nodes make of activations in f16.
    pub element: Element,
    /// What it is for.
    pub role: Role,
    /// Its axes in state dicts, where it is a parameter or a state.
    pub axes: Axes,
    /// Its name; unique among inputs, parameters and states.
    pub name: String,
}

impl Value {
    /// The size of its elements; `u64::MAX` where 64 bits cannot say it.
    pub fn bytes(&self) -> u64 {
        self.shape.bytes_as(self.element)
    }
}

/// An operator applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// The operator.
    pub op: Arc<dyn Operator>,
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it makes.
    pub outputs: Vec<ValueId>,
    /// Where it stands in the network, `encoder.stages.0.0.convs.0.conv`; outside of any scope the name of its operator.
    pub name: String,
}

/// A static graph. Nodes stand in the order in which they run.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    values: Vec<Value>,
    nodes: Vec<Node>,
    names: BTreeSet<String>,
    scope: Vec<String>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// A value that the host writes before each run.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`]; [`GraphError::TooLarge`] beyond 2^32 - 1 elements.
    pub fn input(&mut self, name: &str, shape: Shape) -> Result<ValueId, GraphError> {
        self.named(name.to_owned(), shape, Role::Input)
    }

    /// A trained parameter, named below the current scope.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`]; [`GraphError::TooLarge`] beyond 2^32 - 1 elements.
    pub fn parameter(
        &mut self,
        name: &str,
        shape: Shape,
        init: Init,
    ) -> Result<ValueId, GraphError> {
        self.parameter_with(name, shape, init, Axes::usual(shape))
    }

    /// [`Graph::parameter`] whose axes in state dicts are not those that its shape suggests.
    ///
    /// # Errors
    /// As [`Graph::parameter`].
    pub fn parameter_with(
        &mut self,
        name: &str,
        shape: Shape,
        init: Init,
        axes: Axes,
    ) -> Result<ValueId, GraphError> {
        let id = self.named(self.scoped(name), shape, Role::Parameter(init))?;
        self.values[id.0 as usize].axes = axes;
        Ok(id)
    }

    /// A persistent value that is not trained, named below the current scope.
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`]; [`GraphError::TooLarge`] beyond 2^32 - 1 elements.
    pub fn state(&mut self, name: &str, shape: Shape, init: Init) -> Result<ValueId, GraphError> {
        self.named(self.scoped(name), shape, Role::State(init))
    }

    /// Appends a node named after the current scope, and outside of any after its operator.
    ///
    /// # Errors
    /// [`GraphError::Node`] with the operator's complaint.
    pub fn node(
        &mut self,
        op: Arc<dyn Operator>,
        inputs: &[ValueId],
    ) -> Result<Vec<ValueId>, GraphError> {
        self.append(op, inputs).map_err(|e| self.blame(e))
    }

    /// Turns an operator's complaint into an error that names the current scope.
    pub fn blame(&self, source: OpError) -> GraphError {
        GraphError::Node {
            node: self.scope.join("."),
            source,
        }
    }

    /// Runs `build` with `name` appended to the scope of names.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn scope<R>(
        &mut self,
        name: impl ToString,
        build: impl FnOnce(&mut Self) -> Result<R, GraphError>,
    ) -> Result<R, GraphError> {
        self.scope.push(name.to_string());
        let result = build(self);
        self.scope.pop();
        result
    }

    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// All values with their ids.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        (0..).map(ValueId).zip(&self.values)
    }

    /// All nodes in running order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The trained parameters in the order of their making.
    pub fn parameters(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        self.values()
            .filter(|(_, v)| matches!(v.role, Role::Parameter(_)))
    }

    /// The input, parameter or state of that full name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values()
            .find(|(_, v)| v.name == name && v.role != Role::Computed)
            .map(|(id, _)| id)
    }

    /// Elements of all trained parameters.
    pub fn parameter_count(&self) -> usize {
        self.parameters().map(|(_, v)| v.shape.len()).sum()
    }

    fn scoped(&self, name: &str) -> String {
        let mut parts = self.scope.clone();
        parts.push(name.to_owned());
        parts.join(".")
    }

    fn named(&mut self, name: String, shape: Shape, role: Role) -> Result<ValueId, GraphError> {
        // No device could number its elements, and shape rules may multiply extents without a further look.
        if shape.bytes() > MOST_BYTES {
            return Err(GraphError::TooLarge {
                what: name,
                bytes: shape.bytes(),
                limit: MOST_BYTES,
            });
        }
        if !self.names.insert(name.clone()) {
            return Err(GraphError::DuplicateName(name));
        }
        Ok(self.push(Value {
            shape,
            element: Element::F32,
            role,
            axes: Axes::usual(shape),
            name,
        }))
    }

    fn push(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId(self.values.len() as u32 - 1)
    }

    fn append(
        &mut self,
        op: Arc<dyn Operator>,
        inputs: &[ValueId],
    ) -> Result<Vec<ValueId>, OpError> {
        let shapes: Vec<Shape> = inputs.iter().map(|&i| self.value(i).shape).collect();
        let name = match self.scope[..] {
            [] => op.name().to_owned(),
            _ => self.scope.join("."),
        };
        let made = op.infer(&shapes)?;
        if let Some(&found) = made.iter().find(|shape| shape.bytes() == u64::MAX) {
            return Err(OpError::Shape {
                op: op.name(),
                what: "an output",
                expected: "of a size that 64 bits can say; use a smaller patch or batch".to_owned(),
                found,
            });
        }
        let stored: Vec<Element> = inputs.iter().map(|&i| self.value(i).element).collect();
        let outputs: Vec<ValueId> = made
            .into_iter()
            .enumerate()
            .map(|(index, shape)| {
                self.push(Value {
                    shape,
                    element: match op.layout() {
                        Layout::SliceChannels { .. } | Layout::Reshape => stored[0],
                        Layout::Fresh | Layout::ConcatChannels => op.element(index, &stored),
                    },
                    role: Role::Computed,
                    axes: Axes::usual(shape),
                    name: name.clone(),
                })
            })
            .collect();
        self.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            name,
        });
        Ok(outputs)
    }
}

impl Build for Graph {
    fn add(&mut self, op: Arc<dyn Operator>, inputs: &[ValueId]) -> Result<Vec<ValueId>, OpError> {
        self.append(op, inputs)
    }

    fn shape(&self, value: ValueId) -> Shape {
        self.value(value).shape
    }

    fn element(&self, value: ValueId) -> Element {
        self.value(value).element
    }
}
