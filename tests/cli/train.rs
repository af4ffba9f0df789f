//! `voxseg train`: what it says, what it leaves in the folder of a run, and how a run is ended and resumed.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use voxseg::run::RunFolder;
use voxseg::volume::{Geometry, Image, write_image};

use crate::harness::{Folder, Run, voxseg};
use crate::phantom::{Phantom, quick};
use crate::runs::{QUICK, folder_with, names_in, remove, train};

fn two() -> Phantom {
    Phantom::balls(2)
}

#[test]
fn the_planned_memory_is_said_first_and_adds_up() {
    let folder = folder_with(&Phantom::balls(5));
    let arguments = [&QUICK[..], &["--fold", "0", "--json"]].concat();
    let run = train(&folder, &arguments).succeeded();
    let memory = run.json()["memory"].clone();
    let bytes = |key: &str| memory[key].as_u64().expect("a number of bytes");
    let parts = [
        "parameter_bytes",
        "optimizer_bytes",
        "activation_bytes",
        "batch_bytes",
        "validation_bytes",
    ]
    .map(bytes);
    assert!(parts.iter().all(|&part| part > 0), "{memory}");
    assert_eq!(parts.iter().sum::<u64>(), bytes("total_bytes"));
    let mib = format!(
        "{:.1} MiB",
        bytes("total_bytes") as f64 / f64::from(1 << 20)
    );
    let line = format!("planned device memory: {mib} (parameters ");
    assert!(run.stderr.contains(&line), "no `{line}`: {run:#?}");

    let inspect = |arguments: &[&str]| {
        let mut command = voxseg();
        command.args(["inspect", "run", "--json"]).args(arguments);
        let run = Run::of(command.current_dir(folder.root())).succeeded();
        run.json()["memory"].clone()
    };
    let [step, window] = [
        inspect(&[]),
        inspect(&["--inference", "--patch", "8,16,16"]),
    ];
    let [of_step, of_window] =
        [&step, &window].map(|m| move |key: &str| m[key].as_u64().expect("a number of bytes"));
    assert_eq!(bytes("parameter_bytes"), of_step("parameter_bytes"));
    assert_eq!(
        bytes("total_bytes") - bytes("validation_bytes"),
        of_step("total_bytes")
    );
    let persistent = of_window("parameter_bytes") + of_window("state_bytes");
    assert_eq!(
        bytes("validation_bytes"),
        of_window("total_bytes") - persistent
    );
}

/// A process that does not outlive the test, however that ends.
struct Doomed(std::process::Child);

impl Doomed {
    fn kill(&mut self) {
        self.0.kill().expect("a child");
        self.0.wait().expect("a child");
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_folder_in_use_is_refused_until_its_process_is_gone() {
    let folder = folder_with(&two());
    folder.bytes("long.toml", quick(1_000_000).as_bytes());
    let mut command = voxseg();
    command.args(["train", "data", "-o", "run", "--config", "long.toml"]);
    command.args(["--fold", "all"]).current_dir(folder.root());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Doomed(command.spawn().expect("the binary starts"));
    let patience = Instant::now() + Duration::from_secs(60);
    while !folder.path("run/checkpoint_latest.safetensors").exists() {
        assert!(Instant::now() < patience, "no checkpoint after a minute");
        sleep(Duration::from_millis(10));
    }
    for arguments in [&QUICK[..], &["--resume"]] {
        train(&folder, arguments).refused(&["training in run", "Wait", "another folder"]);
    }
    let names = names_in(&folder, "run");
    assert!(names.contains(&"train.lock".to_owned()), "{names:?}");
    child.kill();
    train(&folder, &QUICK).refused(&["run", "--resume"]);
    let lock = RunFolder::new(folder.path("run")).lock();
    assert!(lock.expect("a file").is_some());
}

#[test]
fn a_run_that_the_device_refuses_can_be_started_anew() {
    let folder = folder_with(&two());
    let huge = ["--batch", "4096", "--patch", "64,128,128"];
    train(&folder, &[&QUICK[..], &huge].concat()).refused(&["smaller batch"]);
    assert!(folder.path("run/plan.json").is_file());
    train(&folder, &QUICK).succeeded();
}

#[cfg(unix)]
#[test]
fn a_full_disk_ends_a_run_that_can_go_on() {
    let folder = folder_with(&two());
    let arguments = ["train", "data", "-o", "run", "--config", "quick.toml"];
    let run = crate::runs::on_a_full_disk(&folder, 150, &arguments);
    assert_eq!(run.code, Some(1), "{run:#?}");
    for word in ["checkpoint_latest", "too large", "free space"] {
        assert!(run.stderr.contains(word), "{run:#?}");
    }
    let left = names_in(&folder, "run");
    let half = |name: &String| name.starts_with('.') || name.contains("checkpoint");
    assert!(!left.iter().any(half), "{left:?}");
    train(&folder, &["--resume"]).succeeded();
}

fn read(folder: &Folder, name: &str) -> Vec<u8> {
    std::fs::read(folder.path(name)).expect("the file is there")
}

#[test]
fn the_users_own_folds_are_used_and_kept() {
    let folder = folder_with(&Phantom::balls(3));
    let own = br#"[{"train": ["ball2"], "val": ["ball0"]}]"#;
    std::fs::create_dir(folder.path("run")).unwrap();
    folder.bytes("run/splits_final.json", own);
    let arguments = [&QUICK[..], &["--fold", "0"]].concat();
    train(&folder, &arguments).succeeded();
    assert_eq!(read(&folder, "run/splits_final.json"), own);
    assert_eq!(names_in(&folder, "run/validation"), ["ball0.nii"]);

    folder.bytes(
        "run/splits_final.json",
        br#"[{"train": ["ball1"], "val": ["ball0"]}]"#,
    );
    train(&folder, &["--resume"]).refused(&["other cases", "splits_final.json"]);
    folder.bytes(
        "run/splits_final.json",
        br#"[{"train": ["heart"], "val": ["ball0"]}]"#,
    );
    train(&folder, &["--resume"]).refused(&["run/splits_final.json", "heart"]);
}

#[test]
fn resuming_with_other_data_changes_nothing() {
    let folder = folder_with(&Phantom::balls(3));
    train(&folder, &[&QUICK[..], &["--fold", "0"]].concat()).succeeded();
    let files = ["splits_final.json", "config.toml", "plan.json", "log.jsonl"];
    let bytes = || files.map(|name| read(&folder, &format!("run/{name}")));
    let before = bytes();
    let two_channels = Phantom {
        channels: 2,
        ..Phantom::balls(3)
    };
    two_channels.write(&folder.path("other"));
    Phantom::balls(5).write(&folder.path("larger"));
    let resume = |data: &str| {
        let mut command = voxseg();
        command.args(["train", data, "-o", "run", "--resume"]);
        Run::of(command.current_dir(folder.root()))
    };
    resume("other").refused(&[
        "run was trained on 1 channel (MRI 0)",
        "other has 2 channels",
    ]);
    assert_eq!(bytes(), before);
    for case in ["ball0", "ball1", "ball2"] {
        remove(&folder, &format!("larger/imagesTr/{case}_0000.nii"));
        remove(&folder, &format!("larger/labelsTr/{case}.nii"));
    }
    resume("larger").refused(&["run/splits_final.json", "not in imagesTr"]);
    assert_eq!(bytes(), before);
}

#[test]
fn a_complete_run_says_so_and_does_nothing_again() {
    let folder = folder_with(&Phantom::balls(3));
    train(&folder, &[&QUICK[..], &["--fold", "0"]].concat()).succeeded();
    let picture = folder.path("run/validation.png");
    std::fs::remove_file(&picture).unwrap();
    let run = train(&folder, &["--resume"]).succeeded();
    assert!(run.stdout.contains("complete already: 2 steps"), "{run:#?}");
    assert!(
        run.stdout.contains("start a new run with --steps"),
        "{run:#?}"
    );
    assert!(!picture.exists(), "it was validated again");
    // What was ended while it validated is not complete.
    remove(&folder, "run/validation.json");
    train(&folder, &["--resume"]).succeeded();
    assert!(picture.exists());
}

#[test]
fn the_plan_and_what_is_seldom_meant_are_said_at_the_start() {
    let folder = folder_with(&Phantom {
        labels: serde_json::json!({"background": 0, "ball": 1, "ghost": 2}),
        ..Phantom::balls(3)
    });
    let geometry = Geometry::from_spacing([16, 24, 24], [1.5, 1.0, 1.0]);
    let flat = Image::new(geometry.clone(), 1, vec![7.0; geometry.voxels()]).unwrap();
    write_image(folder.path("data/imagesTr/ball1_0000.nii"), &flat).unwrap();
    let run = train(
        &folder,
        &[&QUICK[..], &["--fold", "0", "--patch", "7,15,16"]].concat(),
    );
    let run = run.succeeded();
    for line in [
        "warning: case ball1: channel 0 has the same value everywhere",
        "warning: no label file has a voxel of ghost",
        "warning: --patch 7,15,16 is rounded to 7,16,16",
        "2 cases to train on, 1 held out (fold 0)",
        "patch: 7 x 16 x 16 voxels (D, H, W) of 1.5 x 1 x 1 mm, 2 a step",
        "network: nnunet3d, planned for 3 stages of 4, 8, 8 features; 2 steps",
        "step 2/2: loss ",
        "validating (cases: 1)",
    ] {
        assert!(run.stderr.contains(line), "no `{line}`: {run:#?}");
    }
}

#[cfg(unix)]
#[test]
fn the_first_ctrl_c_ends_with_a_checkpoint() {
    let folder = folder_with(&two());
    folder.bytes("long.toml", quick(1_000_000).as_bytes());
    let mut command = voxseg();
    command.args(["train", "data", "-o", "run", "--config", "long.toml"]);
    command.args(["--fold", "all"]).current_dir(folder.root());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Doomed(command.spawn().expect("the binary starts"));
    let patience = Instant::now() + Duration::from_secs(60);
    while !folder.path("run/checkpoint_latest.safetensors").exists() {
        assert!(Instant::now() < patience, "no checkpoint after a minute");
        sleep(Duration::from_millis(10));
    }
    let mut kill = std::process::Command::new("kill");
    kill.args(["-INT", &child.0.id().to_string()]);
    assert!(kill.status().expect("kill starts").success());
    let code = child.0.wait().expect("a child").code();
    let mut stderr = String::new();
    let pipe = child.0.stderr.take();
    std::io::Read::read_to_string(&mut pipe.expect("a pipe"), &mut stderr).expect("text");
    assert_eq!(code, Some(130), "{stderr}");
    let step = stderr
        .split("stopped after step ")
        .nth(1)
        .unwrap_or_else(|| panic!("{stderr}"));
    let step: usize = step
        .split(';')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    let path = folder.path("run/checkpoint_latest.safetensors");
    let checkpoint = voxseg::run::checkpoint::load(&path).expect("a checkpoint");
    assert_eq!(checkpoint.info.step, step);
    assert!(stderr.contains("--resume"), "{stderr}");
}
