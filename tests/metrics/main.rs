//! Metrics, postprocessing and reports against analytic cases and brute force.

mod conventions;
mod distance;
mod output;
mod overlap;
mod shapes;
mod surface;
mod table;
