//! A graph lowered for a device, and what it needs from where to where, before anything is packed.

use std::collections::BTreeMap;

use super::limits::{check_elements, check_requests, check_values};
use super::lower::{Lowered, lower_nodes};
use super::placement::{Placement, place};
use super::plan::{Part, Request, peak_bytes};
use super::tenants::{Tenant, lifetimes};
use super::{Graph, GraphError, ProgramOptions};
use crate::gpu::DeviceProfile;
use crate::ops::ValueId;

/// A program but for where everything lies.
pub(super) struct Draft<'a> {
    pub graph: Graph,
    pub outputs: &'a [ValueId],
    pub device: &'a DeviceProfile,
    pub options: ProgramOptions,
    pub placements: Vec<Placement>,
    pub lowered: Vec<Lowered>,
    pub requests: BTreeMap<Tenant, Request>,
    /// The most bytes of activations and scratch space alive at once.
    pub peak_bytes: u64,
}

impl<'a> Draft<'a> {
    /// Lowers `graph` for `device`; `outputs` can be fetched.
    pub fn of(
        graph: Graph,
        outputs: &'a [ValueId],
        device: &'a DeviceProfile,
        options: ProgramOptions,
    ) -> Result<Self, GraphError> {
        check_elements(&graph, outputs, device)?;
        check_values(&graph, outputs, device)?;
        let placements = place(&graph, outputs, options.reuse_memory);
        let lowered = lower_nodes(&graph, &placements, device)?;
        let requests = lifetimes(&graph, &placements, &lowered, outputs);
        check_requests(&graph, &requests, device)?;
        Ok(Self {
            peak_bytes: peak_bytes(requests.values()),
            graph,
            outputs,
            device,
            options,
            placements,
            lowered,
            requests,
        })
    }

    /// Bytes of device memory that it needs however it is packed.
    pub fn at_least(&self) -> u64 {
        self.peak_bytes + self.graph.persistent_bytes()
    }

    /// Bytes of activations and scratch space alive at each node and, last, after the run.
    pub fn alive(&self) -> Vec<u64> {
        let mut alive = vec![0; self.graph.nodes().len() + 1];
        let parts = self.requests.values().flat_map(|r| &r.parts);
        for &Part { bytes, first, last } in parts.filter(|p| p.first <= p.last) {
            for sum in &mut alive[first..=last] {
                *sum += bytes;
            }
        }
        alive
    }
}
