//! Losses and gradient norms of ten steps against stored ones: whatever changes in preparation, sampling, initialisation, the
//! network, its gradients, the loss or the optimiser shows here.
//!
//! A failure prints the rows that were found. Where the change is meant, say in the commit why, and put them in the place of
//! the old ones. Adapters and kernel variants differ by rounding alone, which ten steps amplify to far less than
//! [`BOUND`]; therefore the naive convolutions must give the same rows.

use std::collections::BTreeMap;
use std::path::Path;

use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::run::RunFolder;
use voxseg::train::{LogLine, TrainConfig, TrainOptions, train};

use crate::folder_with;
use crate::phantom::{Phantom, quick};

/// Largest deviation of a value, as a share of it.
const BOUND: f64 = 1e-3;

/// Loss and gradient norm of a step.
type Row = [f64; 2];

fn rows(folder: &Path, config: &TrainConfig, variant: Option<&str>) -> Vec<Row> {
    let forced = variant.map(|v| ("conv".to_owned(), v.to_owned()));
    let options = GpuOptions {
        forced_variants: BTreeMap::from_iter(forced),
        ..GpuOptions::default()
    };
    let run = RunFolder::new(folder.join(variant.unwrap_or("chosen")));
    let report = pollster::block_on(async {
        let gpu = Gpu::open(&options).await.unwrap_or_else(|e| panic!("{e}"));
        let data = folder.join("data");
        train(&data, &run, config, TrainOptions::default(), gpu, &|_| ()).await
    });
    let row = |line: &LogLine| match line {
        LogLine::Step {
            loss: Some(loss),
            gradient_norm: Some(norm),
            ..
        } => [f64::from(*loss), f64::from(*norm)],
        other => panic!("{other:?}"),
    };
    report.unwrap().log.iter().map(row).collect()
}

fn check(optimizer: &str, expected: &[Row; 10]) {
    let folder = folder_with(&Phantom::balls(3));
    let text = format!("fold = \"all\"\n{optimizer}\n{}", quick(10));
    let config: TrainConfig = toml::from_str(&text).unwrap();
    for variant in [None, Some("naive")] {
        let found = rows(folder.path(), &config, variant);
        let pairs = found.iter().flatten().zip(expected.iter().flatten());
        let deviation = pairs.map(|(f, e)| (f / e - 1.0).abs()).fold(0.0, f64::max);
        println!("{variant:?}: off by {deviation:.1e} of the value at most");
        let listed: Vec<String> = found
            .iter()
            .map(|r| format!("    [{:.6}, {:.6}],", r[0], r[1]))
            .collect();
        assert!(
            found.len() == expected.len() && deviation <= BOUND,
            "{variant:?}: off by {deviation:.1e}; found\n{}",
            listed.join("\n")
        );
    }
}

const SGD: [Row; 10] = [
    [0.468309, 2.018740],
    [0.429899, 1.932406],
    [0.339134, 1.482765],
    [0.358820, 1.133141],
    [0.256603, 1.288887],
    [0.277661, 1.071064],
    [0.209610, 1.002811],
    [0.130004, 1.180463],
    [0.128780, 1.081435],
    [0.122992, 1.056941],
];

#[test]
fn sgd() {
    let optimizer = "optimizer = { kind = \"sgd\", momentum = 0.99, nesterov = true, \
                     weight_decay = 3e-5, max_norm = 1.5 }\nlearning_rate = { kind = \"poly\", initial = 0.01, power = 0.9 }";
    check(optimizer, &SGD);
}

const ADAMW: [Row; 10] = [
    [0.468309, 2.018740],
    [0.413779, 2.000794],
    [0.343019, 1.645357],
    [0.363338, 1.219446],
    [0.283040, 1.523295],
    [0.313594, 1.241241],
    [0.266130, 1.217481],
    [0.212924, 1.436672],
    [0.209930, 1.419766],
    [0.227542, 1.343795],
];

#[test]
fn adamw() {
    let optimizer = "optimizer = { kind = \"adamw\", beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, \
                     weight_decay = 0.01, max_norm = 1.5 }\nlearning_rate = { kind = \"poly\", initial = 0.001, power = 0.9 }";
    check(optimizer, &ADAMW);
}
