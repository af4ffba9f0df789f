//! `voxseg train` on bad input: the exit code, the file and the remedy, and a folder that can be used again.

use voxseg::volume::{Geometry, Image, write_image};

use crate::harness::{Block, Folder};
use crate::phantom::Phantom;
use crate::runs::{QUICK, folder_with, names_in, remove, train};

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
    let run = train(&folder, &QUICK);
    assert!(run.stderr.contains("expected a whole number"), "{run:#?}");
    folder.bytes("quick.toml", b"\xff\xfe");
    train(&folder, &QUICK).refused(&["quick.toml"]);
    remove(&folder, "quick.toml");
    refused(&folder, &QUICK, &["quick.toml"]);
}

#[test]
fn values_that_make_no_sense() {
    let folder = folder_with(&two());
    for flag in ["--steps", "--batch"] {
        for wrong in ["0", "-5", "many"] {
            refused(&folder, &[flag, wrong], &[flag, wrong, "at least 1"]);
        }
    }
    for wrong in ["8,0,16", "8", "-8,16,16"] {
        refused(&folder, &["--patch", wrong], &["--patch", "above 0", wrong]);
    }
    refused(
        &folder,
        &["--patch", "8,16"],
        &["--patch 8,16", "give D,H,W"],
    );
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
fn a_resumed_run_takes_no_other_configuration() {
    let folder = folder_with(&two());
    for flags in [
        &["--config", "quick.toml"][..],
        &["--model", "vnet"],
        &["--steps", "1"],
        &["--seed", "1"],
        &["--fold", "0"],
        &["--batch", "2"],
        &["--patch", "8,16,16"],
        &["--precision", "f16"],
        &["--spacing", "1,1,1"],
        &["--from", "other"],
        &["--weights", "vnet.pth"],
    ] {
        let arguments = [&["--resume"], flags].concat();
        refused(&folder, &arguments, &["--resume", flags[0]]);
    }
}

#[test]
fn folders_that_hold_something() {
    let folder = folder_with(&two());
    train(&folder, &["--resume"]).refused(&["run", "without --resume"]);
    folder.bytes("run", b"mine");
    train(&folder, &QUICK).refused(&["run", "is a file", "another name"]);
    remove(&folder, "run");
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
