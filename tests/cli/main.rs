//! The built binary, as a user or a script meets it.

mod bad_evaluations;
mod bad_training;
mod classify;
mod demo;
mod devices;
mod evaluate;
mod harness;
mod inspect;
mod models;
#[path = "../train/phantom.rs"]
mod phantom;
mod predict;
mod profile;
mod runs;
#[path = "../classify/shapes.rs"]
mod shapes;
mod train;
mod tuning;
mod usage;
mod weights;
