//! What is said of memory before it is taken.

use std::sync::Mutex;

use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::run::RunFolder;
use voxseg::train::{Event, TrainConfig, TrainOptions, train};

use crate::folder_with;
use crate::phantom::{Phantom, quick};

#[test]
fn nothing_is_allocated_before_the_plan_is_told() {
    let folder = folder_with(&Phantom::balls(5));
    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap();
    let config: TrainConfig = toml::from_str(&quick(1)).unwrap();
    let run = RunFolder::new(folder.path().join("run"));
    let told = Mutex::new(Vec::new());
    let observe = |event: Event| {
        if let Event::Planned(memory) = event {
            told.lock().unwrap().push((memory, gpu.counters()));
        }
    };
    let (data, options) = (folder.path().join("data"), TrainOptions::default());
    let training = train(&data, &run, &config, options, gpu.clone(), &observe);
    let report = pollster::block_on(training).unwrap();
    let told = told.into_inner().unwrap();
    let [(memory, counters)] = told[..] else {
        panic!("told {} times", told.len());
    };
    assert_eq!(counters.buffers, 0);
    assert_eq!(memory, report.memory);
    assert!(gpu.counters().buffers > 0);
}
