//! What a device must allow for a graph to be compiled, found out before anything is allocated.

use std::collections::BTreeMap;

use super::plan::Request;
use super::tenants::{Tenant, tenant_name};
use super::{Graph, GraphError, MOST_BYTES, Role, Value};
use crate::gpu::DeviceProfile;
use crate::ops::{Dispatch, ValueId};
use crate::tensor::Element;

/// Workgroups along one axis of a grid, the same on every WebGPU device.
const MAX_WORKGROUPS: u32 = 65_535;

/// The most bytes that a buffer may have, with elements that u32 can number.
pub(super) fn buffer_limit(device: &DeviceProfile) -> u64 {
    device.max_buffer.min(MOST_BYTES)
}

/// Only what the device can store may be stored, and only f32 may be fetched.
pub(super) fn check_elements(
    graph: &Graph,
    outputs: &[ValueId],
    device: &DeviceProfile,
) -> Result<(), GraphError> {
    let is_half = |value: &Value| value.element == Element::F16;
    if !device.f16 && graph.values().any(|(_, value)| is_half(value)) {
        return Err(GraphError::NoF16);
    }
    let mut fetched = outputs.iter().map(|&id| graph.value(id));
    match fetched.find(|value| is_half(value)) {
        None => Ok(()),
        Some(value) => Err(GraphError::FetchedF16 {
            name: value.name.clone(),
        }),
    }
}

/// Every value in use must fit a buffer; the largest is named where some do not. Before lowering, which computes with sizes,
/// and whose dispatches for a huge batch would fill the host's memory.
pub(super) fn check_values(
    graph: &Graph,
    outputs: &[ValueId],
    device: &DeviceProfile,
) -> Result<(), GraphError> {
    let limit = buffer_limit(device);
    let of_nodes = graph.nodes().iter();
    let of_nodes = of_nodes.flat_map(|n| n.inputs.iter().chain(&n.outputs));
    let persistent = graph.values().filter(|(_, v)| v.role != Role::Computed);
    let used = of_nodes.chain(outputs).copied();
    let values = used.chain(persistent.map(|(id, _)| id));
    let largest = values
        .map(|id| graph.value(id))
        .max_by_key(|value| value.bytes());
    match largest.filter(|value| value.bytes() > limit) {
        None => Ok(()),
        Some(value) => Err(GraphError::TooLarge {
            what: value.name.clone(),
            bytes: value.bytes(),
            limit,
        }),
    }
}

/// What the plan is asked for must fit as well: scratch space may be larger than any value. The largest is named.
pub(super) fn check_requests(
    graph: &Graph,
    requests: &BTreeMap<Tenant, Request>,
    device: &DeviceProfile,
) -> Result<(), GraphError> {
    let limit = buffer_limit(device);
    let largest = requests.iter().max_by_key(|(_, request)| request.bytes());
    match largest.filter(|(_, request)| request.bytes() > limit) {
        None => Ok(()),
        Some((tenant, request)) => Err(GraphError::TooLarge {
            what: tenant_name(graph, *tenant),
            bytes: request.bytes(),
            limit,
        }),
    }
}

pub(super) fn check_grid(
    graph: &Graph,
    node: usize,
    dispatch: &Dispatch,
) -> Result<(), GraphError> {
    let [x, rows @ ..] = dispatch.workgroups;
    // Kernels count channels and samples along y and z, voxels and what else there is along x.
    let remedy = match rows.iter().any(|&groups| groups > MAX_WORKGROUPS) {
        true => "a smaller batch or fewer features",
        false if x > MAX_WORKGROUPS => "a smaller patch",
        false => return Ok(()),
    };
    Err(GraphError::Limit {
        node: graph.nodes()[node].name.clone(),
        reason: format!(
            "kernel {} wants a grid of {:?} workgroups, at most {MAX_WORKGROUPS} an axis are allowed; use {remedy}",
            dispatch.kernel.name, dispatch.workgroups
        ),
    })
}
