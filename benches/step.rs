//! The whole training step and the inference of a small nnU-Net on one 64^3 patch: `cargo bench --bench step`.
//!
//! The network is that of benches/common/network.rs. Times are the host's, from the upload of a batch to its loss. First a
//! smaller patch is checked against the naive convolutions.

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use voxseg::graph::Profile;
use voxseg::tensor::Element;

use common::network::{Job, beside_naive, inference, training, training_as};
use common::{Outcome, Rig, cost};

fn describe(rig: &Rig, job: &Job, seconds: f64) -> Outcome<String> {
    let program = job.executor.program();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "best {seconds:.3} s: {}; {} dispatches; activations {:.1} MiB (at least {:.1}), all {:.1} MiB",
        rig.rates(cost(program), seconds),
        program.dispatch_count(),
        mib(program.memory_plan().total_bytes()),
        mib(program.peak_bytes()),
        mib(program.total_bytes()),
    );
    if rig.gpu.has_timestamps() {
        let times = pollster::block_on(job.executor.run_timed(&[]))?;
        text += &format!("\n{}", Profile::new(program, &[times]).table());
    }
    Ok(text)
}

fn steps(criterion: &mut Criterion) {
    let rig = Rig::get();
    let fail = |e: Box<dyn std::error::Error>| -> ! { panic!("not timed: {e}") };
    let ratio = beside_naive(&rig.gpu, training, 16).unwrap_or_else(|e| fail(e));
    println!("{ratio:.1} times as fast as with naive convolutions, on 16^3");
    let mut group = criterion.benchmark_group("step");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    let in_f16 = training_as(Element::F16, &rig.gpu, rig.gpu.profile(), 64);
    for (name, job) in [
        ("training 64^3", training(&rig.gpu, rig.gpu.profile(), 64)),
        ("training 64^3 in f16", in_f16),
        ("inference 64^3", inference(&rig.gpu, rig.gpu.profile(), 64)),
    ] {
        let job = job.unwrap_or_else(|e| fail(e));
        let mut ran = false;
        group.bench_function(name, |b| {
            ran = true;
            b.iter(|| job.run().unwrap_or_else(|e| fail(e)));
        });
        if ran {
            let best = job.best(3).unwrap_or_else(|e| fail(e));
            println!("{}", describe(rig, &job, best).unwrap_or_else(|e| fail(e)));
        }
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
