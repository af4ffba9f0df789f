//! The device: adapter choice, limits, kernels, buffers, recordings. Knows nothing of networks.

mod accesses;
mod adapter;
mod device;
mod error;
mod kernel;
mod matrices;
mod memory;
mod pipeline;
mod profile;
mod recording;
mod stored;
mod unroll;

pub use accesses::declared_writable;
pub use adapter::{AdapterSummary, list_adapters};
pub use device::{Gpu, GpuCounters, GpuOptions, Wanted};
pub use error::GpuError;
pub(crate) use kernel::shipped_kernel;
pub use kernel::{Access, Constants, Field, Kernel, ParamBlock};
pub use matrices::CooperativeMatrix;
pub use memory::{BufferRange, Download, GpuBuffer, Staging};
pub use pipeline::Pipeline;
pub use profile::{AdapterClass, DeviceProfile};
pub use recording::{DispatchTime, RecordedDispatch, Recording, Transfer};
