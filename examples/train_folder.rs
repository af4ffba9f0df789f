//! Trains a network on a folder in nnU-Net's raw layout (dataset.json, imagesTr, labelsTr):
//!
//! `cargo run --release --example train_folder -- Dataset101_LeftAtrium runs/atrium 1000`

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use voxseg::gpu::{Gpu, GpuOptions};
use voxseg::metrics::Convention;
use voxseg::run::RunFolder;
use voxseg::train::{Event, LogLine, TrainConfig, TrainOptions, train};

/// Steps where the command line names no number.
const STEPS: usize = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (dataset, run, steps) = match &arguments[..] {
        [dataset, run] => (dataset, run, Ok(STEPS)),
        [dataset, run, steps] => (dataset, run, steps.parse()),
        _ => return usage(),
    };
    let Ok(steps) = steps else { return usage() };
    match run_training(Path::new(dataset), Path::new(run), steps) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: train_folder DATASET RUN [STEPS]");
    ExitCode::from(2)
}

fn run_training(dataset: &Path, run: &Path, steps: usize) -> Result<(), Box<dyn Error>> {
    // Everything left out is planned from the data: spacing, patch, network, normalisation.
    let mut config = TrainConfig::default();
    config.schedule.steps = Some(steps);

    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default()))?;
    println!("{}", gpu.describe());
    let folder = RunFolder::new(run);
    // Killed half-way, the same command goes on from the newest checkpoint.
    let options = TrainOptions {
        resume: folder.plan().exists(),
        ..TrainOptions::default()
    };
    let report = pollster::block_on(train(dataset, &folder, &config, options, gpu, &tell))?;

    if let Some(evaluation) = &report.validation {
        let mean = evaluation.mean(Convention::FailureCounts);
        println!("mean validation Dice {:.4}", mean.dice);
    }
    println!("weights in {}", folder.last().display());
    Ok(())
}

/// Hears of all that happens, partly from other threads.
fn tell(event: Event) {
    match event {
        Event::Prepared(done, of) => println!("prepared {done} of {of} cases"),
        Event::Step(LogLine::Step { step, loss, .. }) if step % 10 == 0 => {
            // A step whose loss is not finite is left out and trains nothing.
            let loss = loss.map_or("not finite".to_owned(), |l| format!("{l:.4}"));
            println!("step {step}: loss {loss}");
        }
        Event::Validation(LogLine::Validation { step, dice, .. }) => {
            println!("step {step}: validation Dice {dice:.4}");
        }
        _ => {}
    }
}
