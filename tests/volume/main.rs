//! Volumes in and out of files.

mod damage;
mod headers;
mod pictures;
mod placement;
mod raw;
mod real_data;
mod round_trip;
mod streams;
mod types;
mod writing;
