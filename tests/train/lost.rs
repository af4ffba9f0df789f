//! Devices that go away or run out of memory in the middle of a run.

use std::sync::atomic::{AtomicBool, Ordering};

use voxseg::dataset::Dataset;
use voxseg::gpu::{Gpu, GpuError, GpuOptions};
use voxseg::graph::GraphError;
use voxseg::infer::{InferError, InferenceOptions, Model, Weights};
use voxseg::run::RunFolder;
use voxseg::train::{Event, LogLine, TrainConfig, TrainError, TrainOptions, train};

use crate::phantom::{Phantom, quick};
use crate::{assert_same, folder_with, gpu, run, train_with};

/// A device that a test may destroy.
fn own_gpu() -> std::sync::Arc<Gpu> {
    let opened = pollster::block_on(Gpu::open(&GpuOptions::default()));
    opened.unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_training_whose_device_is_lost_says_so_and_resumes_bit_for_bit() {
    let folder = folder_with(&Phantom::balls(5));
    let root = folder.path();
    run(root, "whole", &quick(8)).unwrap();

    let device = own_gpu();
    let lost = AtomicBool::new(false);
    let observe = |event: Event| {
        // Between two checkpoints, the next step already submitted.
        if matches!(event, Event::Step(LogLine::Step { step: 5, .. })) {
            device.destroy();
            lost.store(true, Ordering::Relaxed);
        }
    };
    let config: TrainConfig = toml::from_str(&quick(8)).unwrap();
    let (data, broken) = (root.join("data"), RunFolder::new(root.join("broken")));
    let error = pollster::block_on(train(
        &data,
        &broken,
        &config,
        TrainOptions::default(),
        device.clone(),
        &observe,
    ))
    .unwrap_err();
    assert!(lost.load(Ordering::Relaxed));
    let is_lost = matches!(error, TrainError::Graph(GraphError::Gpu(GpuError::Lost(_))));
    assert!(is_lost && !error.is_users_fault(), "{error}");
    assert!(error.to_string().contains("--resume"), "{error}");

    let resume = TrainOptions {
        resume: true,
        ..TrainOptions::default()
    };
    train_with(root, "broken", "", resume).unwrap();
    assert_same(&root.join("whole"), broken.root());
}

#[test]
fn a_prediction_whose_device_is_lost_says_so() {
    let folder = folder_with(&Phantom::balls(3));
    let root = folder.path();
    run(root, "run", &format!("fold = \"all\"\n{}", quick(2))).unwrap();
    let device = own_gpu();
    let model = Model::load(&root.join("run"), Weights::Final, device.clone()).unwrap();
    let case = &Dataset::open(root.join("data")).unwrap().training[0];
    let options = InferenceOptions::default();
    let error = pollster::block_on(model.segment(case, &options, &mut |_, _| device.destroy()));
    let error = error.unwrap_err();
    let is_lost = matches!(error, InferError::Graph(GraphError::Gpu(GpuError::Lost(_))));
    assert!(is_lost && !error.is_users_fault(), "{error}");
    let again = Model::load(&root.join("run"), Weights::Final, device).unwrap_err();
    assert!(again.to_string().contains("device was lost"), "{again}");
    Model::load(&root.join("run"), Weights::Final, gpu()).unwrap();
}

/// The address space of the process is held where it is once it has its device, which for a CPU that plays a GPU is the
/// device's memory; a GPU of its own is not limited by that, and the test says that it did not run.
#[cfg(target_os = "linux")]
mod memory {
    use std::io::{BufRead, BufReader, Read};
    use std::path::Path;
    use std::process::{Command, Stdio};

    use voxseg::gpu::AdapterClass;

    use super::*;

    /// Runs the binary in `folder`, limits its memory to `spare` MiB more than it has at its line about the adapter,
    /// and gives the exit code and the last line of stderr.
    fn starved(folder: &Path, arguments: &[&str], spare: u64) -> (Option<i32>, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_voxseg"))
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.starts_with("adapter: ") {
            line.clear();
            assert!(stderr.read_line(&mut line).expect("text") > 0, "no adapter");
        }
        let status = format!("/proc/{}/status", child.id());
        let status = std::fs::read_to_string(status).expect("a running process");
        let size = status.lines().find_map(|l| l.strip_prefix("VmSize:"));
        let size = size.and_then(|l| l.trim().strip_suffix(" kB"));
        let kib: u64 = size.and_then(|n| n.parse().ok()).expect("a size");
        let limit = Command::new("prlimit")
            .arg(format!("--pid={}", child.id()))
            .arg(format!("--as={}", (kib << 10) + (spare << 20)))
            .status();
        assert!(limit.expect("prlimit of util-linux").success());
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).expect("text");
        let last = rest.lines().last().unwrap_or_default().to_owned();
        (child.wait().expect("a child").code(), last)
    }

    #[test]
    fn running_out_of_it_is_the_users_to_mend() {
        if gpu().profile().class != AdapterClass::CpuLike {
            println!("not run: the memory of this adapter cannot be limited from outside");
            return;
        }
        let folder = folder_with(&Phantom::balls(3));
        // Slots of 64 MiB, some 2 GiB of them, of which none is ever touched.
        let config = "fold = \"all\"\n[schedule]\nsteps = 1\n[batch]\nsize = 4\npatch = [32, 64, 64]\n\
             [network]\nbase_features = 32\nmax_features = 32\nmax_stages = 2\n";
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        let arguments = ["train", "data", "-o", "run", "--config", "config.toml"];
        let (code, message) = starved(folder.path(), &arguments, 512);
        assert_eq!(code, Some(2), "{message}");
        for word in ["out of device memory", "slot", "smaller patch"] {
            assert!(message.contains(word), "{message}");
        }
    }
}
