//! A run on disk: its folder and who trains in it, its checkpoints, and the network that its plan describes. Training writes it, inference
//! reads it.

pub mod checkpoint;
mod container;
mod folder;
mod lock;
mod planned;

pub use container::{Entry, write_safetensors};
pub use folder::RunFolder;
pub use lock::RunLock;
pub use planned::{
    NetworkTensor, blueprint_of, classes_of, family_of, has_norms, mirror_axes, network_of,
    network_tensors, plan_tensors, training_heads,
};
