//! What is allocated, and when.

use std::sync::Mutex;

use voxseg::gpu::{Gpu, GpuCounters, GpuOptions};
use voxseg::run::RunFolder;
use voxseg::train::{Event, LogLine, TrainConfig, TrainOptions, TrainReport, train};

use crate::folder_with;
use crate::phantom::{Phantom, quick};

/// A run on a device of its own, whose counters no other test moves: what `pick` makes of each event and of the counters
/// at that moment, and what they are at the end.
fn heard<T: Send>(
    config: &str,
    pick: impl Fn(&Event, GpuCounters) -> Option<T> + Sync,
) -> (Vec<T>, TrainReport, GpuCounters) {
    let folder = folder_with(&Phantom::balls(5));
    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap();
    let config: TrainConfig = toml::from_str(config).unwrap();
    let run = RunFolder::new(folder.path().join("run"));
    let picked = Mutex::new(Vec::new());
    let observe = |event: Event| {
        let one = pick(&event, gpu.counters());
        picked.lock().unwrap().extend(one);
    };
    let data = folder.path().join("data");
    let training = train(
        &data,
        &run,
        &config,
        TrainOptions::default(),
        gpu.clone(),
        &observe,
    );
    let report = pollster::block_on(training).unwrap();
    (picked.into_inner().unwrap(), report, gpu.counters())
}

#[test]
fn nothing_is_allocated_before_the_plan_is_told() {
    let (told, report, after) = heard(&quick(1), |event, counters| match event {
        Event::Planned(memory) => Some((*memory, counters)),
        _ => None,
    });
    let [(memory, counters)] = told[..] else {
        panic!("told {} times", told.len());
    };
    assert_eq!(counters.buffers, 0);
    assert_eq!(memory, report.memory);
    assert!(after.buffers > 0);
}

#[test]
fn a_training_step_allocates_nothing_after_the_first() {
    let config = quick(6)
        .replace("checkpoint_every = 2", "checkpoint_every = 6")
        .replace("validate_every = 4", "validate_every = 0");
    let (steps, ..) = heard(&config, |event, counters| match event {
        Event::Step(LogLine::Step { .. }) => Some(counters),
        _ => None,
    });
    assert_eq!(steps.len(), 6);
    for pair in steps[..5].windows(2) {
        let [before, after] = [pair[0], pair[1]];
        assert_eq!(after.submits - before.submits, 1);
        assert_eq!(after.buffers, before.buffers);
        assert_eq!(after.bind_groups, before.bind_groups);
        assert_eq!(after.pipelines, before.pipelines);
    }
}
