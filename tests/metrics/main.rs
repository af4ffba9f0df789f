//! Metrics, postprocessing and reports against analytic cases and brute force.

mod components;
mod conventions;
mod curves;
mod distance;
mod evaluated;
mod output;
mod overlap;
mod picture;
mod postprocess;
mod shapes;
mod surface;
mod table;
