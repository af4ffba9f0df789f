//! Errors of building, planning and running a graph.

use crate::bytes::Bytes;
use crate::gpu::GpuError;
use crate::ops::OpError;
use crate::tensor::Shape;

/// An error of a graph. Shape errors appear while it is built, device limits while it is planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// An operator refused its inputs.
    #[error("node `{node}`: {source}")]
    Node {
        /// The node's name.
        node: String,
        /// The operator's words.
        source: OpError,
    },
    /// Two persistent values have one name.
    #[error("a value named `{0}` exists already; give each parameter and input a name of its own")]
    DuplicateName(String),
    /// A name that the graph does not have.
    #[error("the graph has no {what} named `{name}`; it has: {known}")]
    UnknownName {
        /// Input, parameter or output.
        what: &'static str,
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// Data of the wrong size.
    #[error("`{name}` has shape {expected} = {} elements, the data has {found}", expected.len())]
    DataSize {
        /// The value.
        name: String,
        /// Its shape.
        expected: Shape,
        /// Elements given.
        found: usize,
    },
    /// A stored parameter has another shape.
    #[error(
        "parameter `{name}` has shape {expected} in this network and {found} in the store; the two belong to different networks"
    )]
    StoredShape {
        /// The parameter.
        name: String,
        /// Shape in the graph.
        expected: Shape,
        /// Shape in the store.
        found: Shape,
    },
    /// A tensor too large for the device.
    #[error(
        "`{what}` needs {bytes} bytes in one piece, this device allows at most {limit}. Use a smaller patch (about {} of the voxels would fit), a smaller batch or fewer features",
        percent(*limit, *bytes)
    )]
    TooLarge {
        /// The value or node.
        what: String,
        /// What it needs, bytes.
        bytes: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// More memory of the host than there is.
    #[error(
        "{what} need {bytes} bytes of the host's memory, which the system does not give. Close other programs, or train with a coarser spacing or a patch with fewer slices"
    )]
    HostMemory {
        /// What it is for.
        what: String,
        /// What it needs, bytes.
        bytes: u64,
    },
    /// A training step that cannot be planned within the budget of memory.
    #[error(
        "a training step of this network needs at least {} of device memory on this patch, the budget is {}. Raise \
         --memory-budget, or use a smaller patch, a smaller batch or fewer features",
        rounded_up(*least), Bytes(*budget)
    )]
    Budget {
        /// What it may plan for, bytes.
        budget: u64,
        /// The least that was reached by mixing slots, making values again in the backward part and computing slab by slab, bytes.
        least: u64,
    },
    /// Values in f16 on a device without it.
    #[error(
        "this adapter cannot store f16; use --precision f32, or another adapter (`voxseg devices` says which have f16)"
    )]
    NoF16,
    /// A value in f16 is to be fetched.
    #[error(
        "`{name}` is stored as f16 and results are fetched as f32; append ops::layout::convert to it"
    )]
    FetchedF16 {
        /// The value.
        name: String,
    },
    /// A limit other than size.
    #[error("node `{node}`: {reason}")]
    Limit {
        /// The node.
        node: String,
        /// The figure and what to do.
        reason: String,
    },
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// In whole MiB: what a user can give as a budget.
fn rounded_up(bytes: u64) -> Bytes {
    Bytes(bytes.next_multiple_of(1 << 20))
}

fn percent(limit: u64, bytes: u64) -> String {
    format!("{} %", limit * 100 / bytes.max(1))
}

impl GraphError {
    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Gpu(e) => e.is_users_fault(),
            Self::Limit { .. }
            | Self::TooLarge { .. }
            | Self::HostMemory { .. }
            | Self::Budget { .. }
            | Self::NoF16
            | Self::StoredShape { .. } => true,
            _ => false,
        }
    }
}
