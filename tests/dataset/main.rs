//! Data sets on disk.

mod synthetic;
