//! Volumes in and out of files.

mod raw;
mod real_data;
mod round_trip;
mod types;
