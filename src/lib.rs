#![doc = "Train and run the U-Net family for 2D and 3D medical image segmentation on any GPU that wgpu reaches."]
pub mod cli;
pub mod dataset;
pub mod fsio;
pub mod gpu;
pub mod graph;
pub mod losses;
pub mod metrics;
pub mod ops;
pub mod optim;
pub mod postprocess;
pub mod reference;
pub mod report;
pub mod tensor;
pub mod volume;
