//! Data sets, from dataset.json to batches and back to segmentations.

mod cases;
mod description;
mod fingerprint;
mod integrity;
mod plan;
mod prepared;
mod preprocess;
mod resample;
mod restore;
mod sampling;
mod splits;
mod stages;
mod support;
mod synthetic;
