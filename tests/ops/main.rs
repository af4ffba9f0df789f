//! Operators against the f64 reference, on the device.

mod conv;
mod elementwise;
mod harness;
mod kernels;
mod layout;
