//! The nodes of a graph as dispatches.

use super::placement::{Placement, operand};
use super::{Graph, GraphError};
use crate::gpu::DeviceProfile;
use crate::ops::{Dispatch, Layout, Lowering, Operand, ValueId, lower_within_limits};

/// A node's scratch requests (bytes) and dispatches.
pub(super) struct Lowered {
    pub scratch: Vec<u64>,
    pub dispatches: Vec<Dispatch>,
    pub touched: Vec<ValueId>,
}

/// Bound from its place on where the buffer is too large to be bound from the start.
fn near(operand: Operand, device: &DeviceProfile) -> Operand {
    match operand.reach() > device.binding_limit() {
        true => operand.rebased(),
        false => operand,
    }
}

pub(super) fn lower_nodes(
    graph: &Graph,
    placements: &[Placement],
    device: &DeviceProfile,
) -> Result<Vec<Lowered>, GraphError> {
    let operands = |ids: &[ValueId]| -> Vec<Operand> {
        ids.iter()
            .map(|&v| near(operand(graph, placements, v), device))
            .collect()
    };
    graph
        .nodes()
        .iter()
        .map(|node| {
            let (inputs, outputs) = (operands(&node.inputs), operands(&node.outputs));
            let mut lowering = Lowering::new(device, &inputs, &outputs);
            if !matches!(
                node.op.layout(),
                Layout::SliceChannels { .. } | Layout::Reshape
            ) {
                lower_within_limits(node.op.as_ref(), &mut lowering).map_err(|source| {
                    GraphError::Node {
                        node: node.name.clone(),
                        source,
                    }
                })?;
            }
            if !lowering.fits() {
                return Err(GraphError::TooLarge {
                    what: node.name.clone(),
                    bytes: lowering.reach(),
                    limit: device.binding_limit(),
                });
            }
            let (scratch, mut dispatches) = (lowering.scratch, lowering.dispatches);
            // Drivers treat an empty grid as a silent no-op, so it is no step.
            dispatches.retain(|d| !d.workgroups.contains(&0));
            Ok(Lowered {
                scratch,
                dispatches,
                touched: [node.inputs.clone(), node.outputs.clone()].concat(),
            })
        })
        .collect()
}
