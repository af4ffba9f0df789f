#![doc = "Train and run the U-Net family for 2D and 3D medical image segmentation on any GPU that wgpu reaches."]
pub mod bytes;
pub mod classify;
pub mod cli;
pub mod dataset;
pub mod fsio;
pub mod gpu;
pub mod graph;
mod hash;
pub mod infer;
pub mod losses;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod postprocess;
pub mod reference;
pub mod report;
#[cfg(test)]
mod rooms;
pub mod run;
pub mod style;
pub mod table;
pub mod tensor;
pub mod train;
pub mod tune;
pub mod volume;
pub mod weights;
mod words;

/// The program of the README, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
