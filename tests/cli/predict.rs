//! `voxseg predict`: the geometry of its output, and bad input.

use std::fs;
use std::path::Path;

use voxseg::postprocess::{Connectivity, connected_components};
use voxseg::volume::{Affine, Geometry, Image, read_geometry, read_labels, write_image};

use crate::harness::{Folder, Run, voxseg};
use crate::phantom::Phantom;
use crate::runs::{folder_with, names_in, train};

/// A folder with the two images of `data` in `in`, and a trained network in `run`.
fn trained() -> Folder {
    let folder = folder_with(&Phantom::balls(2));
    train(&folder, &["--config", "quick.toml"]).succeeded();
    fs::rename(folder.path("data/imagesTr"), folder.path("in")).unwrap();
    folder
}

fn predict(folder: &Folder, arguments: &[&str]) -> Run {
    let mut command = voxseg();
    command.args(["predict", "run"]).args(arguments);
    Run::of(command.current_dir(folder.root()))
}

/// The header fields of a NIfTI-1 file that say where it lies: dim, pixdim, both forms, the units.
fn placement(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    [
        &bytes[40..56],
        &bytes[76..108],
        &bytes[123..124],
        &bytes[252..328],
    ]
    .concat()
}

fn oblique(shape: [usize; 3]) -> Geometry {
    Geometry::from_affine(
        shape,
        Affine::from_rows([
            [-0.9, 0.1, 0.3, 12.5],
            [0.2, 0.95, -0.4, -7.25],
            [0.1, -0.2, 1.6, 100.0],
        ]),
    )
}

#[test]
fn the_output_lies_exactly_where_the_input_does() {
    let folder = trained();
    let geometries = [
        ("oblique", oblique([17, 25, 22])),
        ("thin", oblique([3, 40, 9])),
        (
            "coarse",
            Geometry::from_spacing([9, 15, 31], [3.0, 1.7, 0.9]),
        ),
    ];
    for (name, geometry) in &geometries {
        let voxels = (0..geometry.voxels()).map(|v| (v % 97) as f32);
        let image = Image::new(geometry.clone(), 1, voxels.collect()).unwrap();
        write_image(folder.path(&format!("in/{name}_0000.nii")), &image).unwrap();
    }
    let run = predict(&folder, &["-i", "in", "-o", "out", "--json"]).succeeded();
    assert_eq!(run.json()["written"].as_array().map(Vec::len), Some(5));
    for (name, _) in &geometries {
        let input = folder.path(&format!("in/{name}_0000.nii"));
        let output = folder.path(&format!("out/{name}.nii"));
        assert_eq!(
            read_geometry(&input).unwrap(),
            read_geometry(&output).unwrap()
        );
        assert_eq!(placement(&input), placement(&output), "{name}");
    }
    // One file gives what the folder gave.
    predict(&folder, &["-i", "in/oblique_0000.nii", "-o", "one.nii.gz"]).succeeded();
    let read = |name: &str| read_labels(folder.path(name)).unwrap();
    assert_eq!(
        read("one.nii.gz").labels(),
        read("out/oblique.nii").labels()
    );
    predict(
        &folder,
        &["-i", "in/thin_0000.nii", "-o", "mirrored", "--tta"],
    )
    .succeeded();
    assert_eq!(names_in(&folder, "mirrored"), ["thin.nii"]);
}

#[test]
fn predictions_are_evaluated_as_they_are() {
    let folder = trained();
    predict(&folder, &["-i", "in", "-o", "out"]).succeeded();
    let mut command = voxseg();
    command.args(["evaluate", "out", "data/labelsTr", "--json"]);
    let document = Run::of(command.current_dir(folder.root()))
        .succeeded()
        .json();
    assert!(document["mean"]["dice"].is_number(), "{document}");
    assert!(document["classes"]["ball"].is_object(), "{document}");
}

#[test]
fn only_the_largest_piece_stays_where_that_is_asked_for() {
    let folder = trained();
    predict(&folder, &["-i", "in", "-o", "all"]).succeeded();
    predict(&folder, &["-i", "in", "-o", "one", "--largest-component"]).succeeded();
    let mut pieces = 0;
    for name in ["ball0.nii", "ball1.nii"] {
        let read = |folder_of: &str| read_labels(folder.path(folder_of).join(name)).unwrap();
        let (all, one) = (read("all"), read("one"));
        let mask: Vec<bool> = all.labels().iter().map(|&label| label > 0).collect();
        let found = connected_components(&mask, all.shape(), Connectivity::Corners).unwrap();
        let mut expected = vec![0; mask.len()];
        for (range, id) in found.ranges() {
            if Some(id) == found.largest() {
                expected[range.clone()].copy_from_slice(&all.labels()[range]);
            }
        }
        assert_eq!(one.labels(), expected);
        assert_eq!(one.geometry(), all.geometry());
        pieces += found.sizes().len();
    }
    assert!(
        pieces > 2,
        "two steps of training leave crumbs, found {pieces} pieces"
    );
}

#[test]
fn what_is_there_already_can_be_left_out() {
    let folder = trained();
    fs::create_dir(folder.path("out")).unwrap();
    folder.bytes("out/ball0.nii", b"done before");
    let arguments = ["-i", "in", "-o", "out", "--json"];
    let run = predict(
        &folder,
        &[&arguments[..], &["--continue-prediction"]].concat(),
    );
    assert_eq!(run.succeeded().json()["written"][0], "out/ball1.nii");
    assert_eq!(
        fs::read(folder.path("out/ball0.nii")).unwrap(),
        b"done before"
    );
    predict(&folder, &arguments).succeeded();
    assert!(read_labels(folder.path("out/ball0.nii")).is_ok());
}

#[test]
fn images_that_do_not_fit() {
    let folder = trained();
    let two = ["-i", "in/ball0_0000.nii", "in/ball1_0000.nii", "-o", "out"];
    predict(&folder, &two).refused(&["2 files", "run was trained on 1 channel (MRI 0)"]);
    predict(&folder, &["-i", "nowhere", "-o", "out"]).refused(&["nowhere"]);
    predict(&folder, &["-i", "in", "-o", "out", "--step-size", "0"]).refused(&["--step-size"]);
    let onto_itself = ["-i", "in/ball0_0000.nii", "-o", "in/../in/ball0_0000.nii"];
    predict(&folder, &onto_itself).refused(&["ball0_0000.nii", "another -o"]);
    fs::create_dir(folder.path("empty")).unwrap();
    predict(&folder, &["-i", "empty", "-o", "out"]).refused(&["empty", ".nii"]);
    folder.bytes("in/ball1_0001.nii", b"a second channel");
    predict(&folder, &["-i", "in", "-o", "out"]).refused(&[
        "ball1_0001.nii",
        "is channel 1",
        "run was trained on 1 channel",
    ]);
    fs::remove_file(folder.path("in/ball1_0001.nii")).unwrap();
    assert!(!folder.path("out").exists());
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_the_first_case() {
    let folder = trained();
    // Of a case whose voxels cannot serve either: whoever complains about them has begun with it.
    let mut image = fs::read(folder.path("in/ball1_0000.nii")).unwrap();
    image[752..756].copy_from_slice(&f32::NAN.to_le_bytes());
    folder.bytes("in/ball1_0000.nii", &image);
    predict(&folder, &["-i", "in/ball1_0000.nii", "-o", "x.nii"]).refused(&["ball1", "finite"]);
    let one = |output: &str| predict(&folder, &["-i", "in/ball1_0000.nii", "-o", output]);
    one("x.img").refused(&["x.img", ".nii.gz"]);
    one("x.png").refused(&["x.png", "a volume of 16 x 24 x 24 voxels"]);
    folder.bytes("file", b"in the way");
    one("file").refused(&["file", "is a file"]);
    let all = |output: &str| predict(&folder, &["-i", "in", "-o", output]);
    all("file").refused(&["file", "is a file"]);
    all("out.nii.gz").refused(&["out.nii.gz", "-i in is a folder"]);
    assert!(!folder.path("out.nii.gz").exists());
    // Whatever its name, a folder is one.
    fs::create_dir(folder.path("out.nii.gz")).unwrap();
    predict(&folder, &["-i", "in/ball0_0000.nii", "-o", "out.nii.gz"]).succeeded();
    assert_eq!(names_in(&folder, "out.nii.gz"), ["ball0.nii"]);
}

/// Splits every NIfTI file of a folder into header and voxels.
fn split_into_pairs(folder: &Folder, name: &str) {
    for file in names_in(folder, name) {
        let path = folder.path(name).join(file);
        let mut header = fs::read(&path).unwrap();
        let voxels = header.split_off(352);
        header.truncate(348);
        header[108..112].copy_from_slice(&0f32.to_le_bytes());
        header[344..348].copy_from_slice(b"ni1\0");
        fs::write(path.with_extension("hdr"), header).unwrap();
        fs::write(path.with_extension("img"), voxels).unwrap();
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn pairs_of_files_are_answered_by_single_ones() {
    let folder = folder_with(&Phantom::balls(3));
    for name in ["data/imagesTr", "data/labelsTr"] {
        split_into_pairs(&folder, name);
    }
    let text = fs::read_to_string(folder.path("data/dataset.json")).unwrap();
    folder.bytes("data/dataset.json", text.replace(".nii", ".hdr").as_bytes());
    let quick = fs::read_to_string(folder.path("quick.toml")).unwrap();
    let held_out = quick.replace("fold = \"all\"", "fold = 0");
    folder.bytes("quick.toml", held_out.as_bytes());
    train(&folder, &["--config", "quick.toml"]).succeeded();
    let validated = names_in(&folder, "run/validation");
    assert!(!validated.is_empty() && validated.iter().all(|name| name.ends_with(".nii.gz")));
    predict(&folder, &["-i", "data/imagesTr", "-o", "out"]).succeeded();
    let expected = ["ball0.nii.gz", "ball1.nii.gz", "ball2.nii.gz"];
    assert_eq!(names_in(&folder, "out"), expected);
    let mut command = voxseg();
    command.args(["evaluate", "out", "data/labelsTr", "--json"]);
    let run = Run::of(command.current_dir(folder.root())).succeeded();
    assert!(!run.stderr.contains("warning"), "{run:#?}");
}

#[test]
fn a_run_that_has_not_ended_is_taken_as_it_is_and_says_so() {
    let folder = trained();
    let arguments = ["-i", "in/ball0_0000.nii", "-o", "out.nii", "--checked"];
    let run = predict(&folder, &arguments).succeeded();
    let weights = |run: &Run| {
        let line = run.stderr.lines().find(|l| l.starts_with("weights: "));
        line.unwrap_or_else(|| panic!("{run:#?}")).to_owned()
    };
    assert_eq!(
        weights(&run),
        "weights: run/checkpoint_final.safetensors of step 2"
    );
    fs::remove_file(folder.path("run/checkpoint_final.safetensors")).unwrap();
    let line = weights(&predict(&folder, &arguments).succeeded());
    assert!(
        line.contains("checkpoint_latest.safetensors of step 2; this run has not ended"),
        "{line}"
    );
    let asked_for = [&arguments[..], &["--checkpoint", "latest"]].concat();
    let line = weights(&predict(&folder, &asked_for).succeeded());
    assert!(line.ends_with("of step 2"), "{line}");
}

#[test]
fn colour_pictures_are_one_file() {
    let phantom = Phantom {
        shape: [1, 32, 40],
        spacing: [1.0; 3],
        channels: 3,
        ending: ".png",
        ..Phantom::balls(2)
    };
    let folder = folder_with(&phantom);
    train(&folder, &["--config", "quick.toml", "--patch", "16,16"]).succeeded();
    let geometry = Geometry::from_spacing([1, 20, 30], [1.0; 3]);
    let colour = Image::new(geometry.clone(), 3, vec![80.0; 3 * geometry.voxels()]).unwrap();
    write_image(folder.path("colour.png"), &colour).unwrap();
    predict(&folder, &["-i", "colour.png", "-o", "found.png"]).succeeded();
    let found = read_labels(folder.path("found.png")).unwrap();
    assert_eq!(found.shape(), [1, 20, 30]);
    let grey = Image::new(geometry.clone(), 1, vec![80.0; geometry.voxels()]).unwrap();
    write_image(folder.path("grey.png"), &grey).unwrap();
    predict(&folder, &["-i", "grey.png", "-o", "none.png"]).refused(&[
        "grey.png",
        "1 channel",
        "run was trained on 3 channels (MRI 0, MRI 1, MRI 2) in .png files",
    ]);
    fs::create_dir(folder.path("volumes")).unwrap();
    write_image(folder.path("volumes/a_0000.nii.gz"), &grey).unwrap();
    for input in ["volumes", "volumes/a_0000.nii.gz"] {
        let words = ["a_0000.nii.gz", "run was trained on", ".png files"];
        predict(&folder, &["-i", input, "-o", "none"]).refused(&words);
    }
    assert!(!folder.path("none.png").exists());
}

#[test]
fn runs_that_are_none() {
    let folder = trained();
    let arguments = ["-i", "in", "-o", "out"];
    let last = "run/checkpoint_final.safetensors";
    predict(
        &folder,
        &[&arguments[..], &["--checkpoint", "best"]].concat(),
    )
    .refused(&["run", "checkpoint_best"]);
    let whole = fs::read(folder.path(last)).unwrap();
    for share in [0.0, 0.01, 0.9] {
        folder.cut(last, share);
        predict(&folder, &arguments).refused(&["checkpoint_final", "not a whole checkpoint"]);
        folder.bytes(last, &whole);
    }
    // The weights of a network with fewer channels.
    fs::rename(folder.path("in"), folder.path("data/imagesTr")).unwrap();
    let narrow = fs::read_to_string(folder.path("quick.toml")).unwrap();
    folder.bytes(
        "narrow.toml",
        narrow
            .replace("max_features = 8", "max_features = 4")
            .as_bytes(),
    );
    let mut command = voxseg();
    command.args(["train", "data", "-o", "narrow", "--config", "narrow.toml"]);
    Run::of(command.current_dir(folder.root())).succeeded();
    fs::rename(folder.path("data/imagesTr"), folder.path("in")).unwrap();
    fs::copy(
        folder.path("narrow/checkpoint_final.safetensors"),
        folder.path(last),
    )
    .unwrap();
    predict(&folder, &arguments).refused(&["checkpoint_final", "does not fit", "has shape"]);
    folder.cut("run/plan.json", 0.5);
    predict(&folder, &arguments).refused(&["plan.json"]);
    fs::remove_file(folder.path("run/plan.json")).unwrap();
    predict(&folder, &arguments).refused(&["run", "no plan.json", "voxseg train -o"]);
    assert!(!folder.path("out").exists());
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_no_half_file() {
    let folder = trained();
    let arguments = ["predict", "run", "-i", "in", "-o", "out"];
    let run = crate::runs::on_a_full_disk(&folder, 8, &arguments);
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stderr.contains("out/ball0.nii"), "{run:#?}");
    assert!(run.stderr.contains("too large"), "{run:#?}");
    assert_eq!(names_in(&folder, "out"), Vec::<String>::new());
}

#[test]
fn activations_in_f16_give_nearly_the_same_labels_and_another_precision_is_refused() {
    let folder = trained();
    predict(&folder, &["-i", "in", "-o", "single"]).succeeded();
    predict(&folder, &["-i", "in", "-o", "half", "--precision", "f16"]).succeeded();
    let read = |name: &str| read_labels(folder.path(name).join("ball0.nii")).unwrap();
    let (single, half) = (read("single"), read("half"));
    let labels = single.labels().iter().zip(half.labels());
    let other = labels.filter(|(a, b)| a != b).count();
    assert!(
        100 * other < single.labels().len(),
        "{other} of {} voxels have another label",
        single.labels().len()
    );
    let refused = predict(&folder, &["-i", "in", "-o", "out", "--precision", "f64"]);
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(refused.stderr.contains("f32 or f16"), "{refused:#?}");
    assert!(!folder.path("out").exists());
}

#[test]
fn a_bad_case_does_not_keep_the_others_from_being_segmented() {
    let folder = trained();
    folder.cut("in/ball0_0000.nii", 0.5);
    let run = predict(&folder, &["-i", "in", "-o", "out"]);
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert_eq!(run.stdout.trim(), "out/ball1.nii");
    let error = run.stderr.lines().rfind(|line| line.starts_with("error: "));
    assert!(
        error.is_some_and(|line| line.contains("ball0_0000.nii")),
        "{run:#?}"
    );
    assert!(run.stderr.contains("1 of 2 cases written"), "{run:#?}");
    assert_eq!(names_in(&folder, "out"), ["ball1.nii"]);

    let run = predict(&folder, &["-i", "in", "-o", "out", "--json"]);
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert_eq!(run.json()["written"][0], "out/ball1.nii");
    let failed = run.json()["failed"][0].to_string();
    assert!(failed.contains("ball0_0000.nii"), "{failed}");

    folder.cut("in/ball1_0000.nii", 0.5);
    let run = predict(&folder, &["-i", "in", "-o", "none"]).refused(&["ball0_0000.nii"]);
    let second = run.stderr.lines().find(|line| line.starts_with("and "));
    assert!(
        second.is_some_and(|line| line.contains("ball1_0000.nii")),
        "{run:#?}"
    );
}

#[test]
fn no_file_of_a_folder_is_left_out_in_silence() {
    let folder = trained();
    let ball = voxseg::volume::read_image(folder.path("in/ball0_0000.nii")).unwrap();
    write_image(folder.path("in/packed_0000.nii.gz"), &ball).unwrap();
    folder.bytes("in/notes.txt", b"mine");
    let run = predict(&folder, &["-i", "in", "-o", "out"]).succeeded();
    let names = names_in(&folder, "out");
    assert_eq!(names, ["ball0.nii", "ball1.nii", "packed.nii.gz"]);
    assert!(run.stderr.contains("in/notes.txt: left out"), "{run:#?}");
    let read = |name: &str| read_labels(folder.path(name)).unwrap();
    assert_eq!(
        read("out/packed.nii.gz").labels(),
        read("out/ball0.nii").labels()
    );

    for foreign in ["in/scan_0000.mha", "in/scan_0000.png"] {
        folder.bytes(foreign, b"no volume");
        predict(&folder, &["-i", "in", "-o", "none"]).refused(&[foreign, "run was trained on"]);
        fs::remove_file(folder.path(foreign)).unwrap();
    }
    write_image(folder.path("in/ball0_0000.nii.gz"), &ball).unwrap();
    let twice = ["ball0_0000.nii.gz", "ball0_0000.nii", "remove one"];
    predict(&folder, &["-i", "in", "-o", "none"]).refused(&twice);
}
