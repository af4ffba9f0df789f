//! The `voxseg` binary.

fn main() {}
