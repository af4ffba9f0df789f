//! `voxseg train` on bad input: the exit code, the file and the remedy, and a folder that can be used again.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use voxseg::run::RunFolder;
use voxseg::volume::{Geometry, Image, write_image};

use crate::harness::{Block, Folder, Run, voxseg};
use crate::phantom::{Phantom, quick};
use crate::runs::{folder_with, names_in, train};

const QUICK: [&str; 2] = ["--config", "quick.toml"];

/// Asserts that training is refused with all `words` and leaves no run behind.
fn refused(folder: &Folder, arguments: &[&str], words: &[&str]) {
    train(folder, arguments).refused(words);
    assert!(!folder.path("run").exists(), "{words:?}");
}

/// Asserts the same of a data set that `damage` has been done to.
fn damaged(phantom: &Phantom, damage: impl FnOnce(&Folder), words: &[&str]) {
    let folder = folder_with(phantom);
    damage(&folder);
    refused(&folder, &QUICK, words);
}

fn remove(folder: &Folder, name: &str) {
    std::fs::remove_file(folder.path(name)).expect("the file is there");
}

/// Overwrites bytes of a file.
fn patch(folder: &Folder, name: &str, at: usize, with: &[u8]) {
    let mut bytes = std::fs::read(folder.path(name)).expect("the file is there");
    bytes[at..at + with.len()].copy_from_slice(with);
    folder.bytes(name, &bytes);
}

fn two() -> Phantom {
    Phantom::balls(2)
}

#[test]
fn files_that_are_missing() {
    damaged(
        &two(),
        |f| remove(f, "data/dataset.json"),
        &["dataset.json"],
    );
    damaged(
        &two(),
        |f| remove(f, "data/labelsTr/ball1.nii"),
        &["labelsTr/ball1.nii", "add it"],
    );
    damaged(
        &two(),
        |f| remove(f, "data/imagesTr/ball1_0000.nii"),
        &["labelsTr/ball1.nii", "remove the label"],
    );
    let two_channels = Phantom {
        channels: 2,
        ..two()
    };
    damaged(
        &two_channels,
        |f| remove(f, "data/imagesTr/ball1_0001.nii"),
        &["imagesTr/ball1_0001.nii", "all 2 channels"],
    );
    let empty = |f: &Folder| {
        for case in ["ball0", "ball1"] {
            remove(f, &format!("data/imagesTr/{case}_0000.nii"));
        }
    };
    damaged(&two(), empty, &["imagesTr", "folder is empty", ".nii"]);
}

#[test]
fn sizes_that_differ() {
    let short = Geometry::from_spacing([16, 24, 23], [1.5, 1.0, 1.0]);
    let label = |f: &Folder| {
        f.labels_on("data/labelsTr/ball1.nii", short.clone(), &[]);
    };
    damaged(
        &two(),
        label,
        &["ball1_0000.nii", "labelsTr/ball1.nii", "resample"],
    );
    let channel = |f: &Folder| {
        let image = Image::new(short.clone(), 1, vec![1.0; short.voxels()]).unwrap();
        write_image(f.path("data/imagesTr/ball1_0001.nii"), &image).unwrap();
    };
    let two_channels = Phantom {
        channels: 2,
        ..two()
    };
    damaged(
        &two_channels,
        channel,
        &["ball1_0000.nii", "ball1_0001.nii", "resample"],
    );
}

#[test]
fn labels_that_make_no_sense() {
    let geometry = Geometry::from_spacing([16, 24, 24], [1.5, 1.0, 1.0]);
    let foreign = |f: &Folder| {
        let block = Block(7, [0, 0, 0], [1, 1, 2]);
        f.labels_on("data/labelsTr/ball1.nii", geometry.clone(), &[block]);
    };
    damaged(
        &two(),
        foreign,
        &["labelsTr/ball1.nii", "label(s) 7", "2 voxels"],
    );
    let floats = |f: &Folder| {
        let image = Image::new(geometry.clone(), 1, vec![0.25; geometry.voxels()]).unwrap();
        write_image(f.path("data/labelsTr/ball0.nii"), &image).unwrap();
    };
    damaged(
        &two(),
        floats,
        &["labelsTr/ball0.nii", "whole numbers", "0.25"],
    );
}

#[test]
fn every_problem_of_a_data_set_is_told_at_once() {
    let folder = folder_with(&Phantom::balls(3));
    folder.cut("data/imagesTr/ball0_0000.nii", 0.5);
    folder.bytes("data/labelsTr/ball2.nii", b"no label");
    let run = train(&folder, &QUICK).refused(&["ball0_0000.nii"]);
    let second = run.stderr.lines().find(|line| line.starts_with("and "));
    assert!(
        second.is_some_and(|line| line.contains("ball2.nii")),
        "{run:#?}"
    );

    let folder = folder_with(&two());
    let text = std::fs::read_to_string(folder.path("data/dataset.json")).unwrap();
    let three = text.replace("\"numTraining\":2", "\"numTraining\":3");
    folder.bytes("data/dataset.json", three.as_bytes());
    refused(&folder, &QUICK, &["numTraining is 3", "2 case(s)"]);
    // What else is wrong is told with it.
    folder.bytes("data/labelsTr/ball1.nii", b"no label");
    let run = train(&folder, &QUICK).refused(&["numTraining is 3"]);
    assert!(run.stderr.contains("ball1.nii"), "{run:#?}");
}

#[test]
fn damaged_images() {
    const IMAGE: &str = "data/imagesTr/ball1_0000.nii";
    let file = "imagesTr/ball1_0000.nii";
    for value in [f32::NAN, f32::INFINITY] {
        let poison = |f: &Folder| patch(f, IMAGE, 352 + 4 * 100, &value.to_le_bytes());
        damaged(&two(), poison, &[file, "finite"]);
    }
    damaged(
        &two(),
        |f| {
            f.cut(IMAGE, 0.5);
        },
        &[file],
    );
    damaged(
        &two(),
        |f| {
            f.bytes(IMAGE, &[0; 100]);
        },
        &[file],
    );
    // dim[1], the extent along x: more than the file holds, and below zero.
    for extent in [30_000_i16, -24] {
        damaged(
            &two(),
            |f| patch(f, IMAGE, 42, &extent.to_le_bytes()),
            &[file],
        );
    }
}

#[test]
fn keys_that_do_not_exist_name_their_line() {
    let folder = folder_with(&two());
    folder.bytes("quick.toml", b"seed = 1\n[batch]\nsizes = 2\n");
    let run = train(&folder, &QUICK).refused(&["quick.toml", "line 3"]);
    assert!(run.stderr.contains("`sizes`"), "{run:#?}");
    folder.bytes("quick.toml", b"[schedule]\nsteps = \"many\"\n");
    train(&folder, &QUICK).refused(&["quick.toml", "line 2"]);
    folder.bytes("quick.toml", b"\xff\xfe");
    train(&folder, &QUICK).refused(&["quick.toml"]);
    remove(&folder, "quick.toml");
    refused(&folder, &QUICK, &["quick.toml"]);
}

#[test]
fn values_that_make_no_sense() {
    let folder = folder_with(&two());
    refused(
        &folder,
        &["--steps", "0"],
        &["schedule.steps", "at least 1"],
    );
    refused(&folder, &["--patch", "8,0,16"], &["batch.patch", "above 0"]);
    refused(&folder, &["--patch", "8,16"], &["--patch", "three numbers"]);
    refused(
        &folder,
        &["--spacing", "1,-1,1"],
        &["batch.spacing", "above 0"],
    );
    for batch in ["4097", "18446744073709551615"] {
        let words = ["batch.size", "from 1 to 4096", batch];
        refused(&folder, &["--batch", batch], &words);
    }
    let edges = "65536,65536,65536";
    refused(&folder, &["--patch", edges], &["batch.patch", "voxels"]);
    refused(&folder, &["--fold", "5"], &["fold", "0 to 4"]);
    refused(&folder, &["--fold", "first"], &["fold", "`first`"]);
}

#[test]
fn folders_that_hold_something() {
    let folder = folder_with(&two());
    train(&folder, &["--resume"]).refused(&["run", "without --resume"]);
    for (own, remedy) in [("notes.txt", "empty folder"), ("config.toml", "--resume")] {
        let name = format!("run/{own}");
        std::fs::create_dir_all(folder.path("run")).unwrap();
        folder.bytes(&name, b"mine");
        train(&folder, &QUICK).refused(&["run", remedy]);
        assert_eq!(std::fs::read(folder.path(&name)).unwrap(), b"mine");
        remove(&folder, &name);
    }
    let run = train(
        &folder,
        &[&QUICK[..], &["--json", "--patch", "8,16,16"]].concat(),
    );
    assert_eq!(run.succeeded().json()["steps"], 2);
    let before = names_in(&folder, "run");
    train(&folder, &QUICK).refused(&["run", "--resume"]);
    assert_eq!(names_in(&folder, "run"), before);
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
