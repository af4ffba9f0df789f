//! Rooms only look down: the picture in ARCHITECTURE.md, as a test.

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground floor up; a room may use those before it.
const FLOORS: [&str; 20] = [
    "gpu",
    "tensor",
    "reference",
    "ops",
    "graph",
    "nn",
    "models",
    "losses",
    "optim",
    "volume",
    "dataset",
    "metrics",
    "postprocess",
    "report",
    "run",
    "infer",
    "tune",
    "train",
    "cli",
    "main.rs",
];

/// Files that every room may use, and that use none.
const GROUND: [&str; 5] = ["bytes", "fsio", "hash", "style", "table"];

fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).expect("a folder of sources");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| rust_files(&path)).collect()
}

/// The rooms that the sources at `path` name, with the file that does.
fn used(path: &Path) -> Vec<(PathBuf, String)> {
    let of_file = |file: PathBuf| {
        let text = fs::read_to_string(&file).expect("a source file");
        let after = text.split("crate::").skip(1);
        let rooms = after.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_'));
        let rooms: Vec<String> = rooms
            .filter_map(|mut words| words.next().map(str::to_owned))
            .collect();
        rooms.into_iter().map(move |room| (file.clone(), room))
    };
    rust_files(path).into_iter().flat_map(of_file).collect()
}

#[test]
fn rooms_only_look_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let floor = |room: &str| FLOORS.iter().position(|&known| known == room);
    let mut seen = 0;
    for (here, room) in FLOORS.iter().enumerate() {
        for (file, other) in used(&src.join(room)) {
            let there = floor(&other);
            seen += usize::from(there.is_some_and(|there| there < here));
            let upwards = there.is_some_and(|there| there > here);
            assert!(!upwards, "{} uses {other}", file.display());
        }
    }
    assert!(seen > 100, "only {seen} uses found");
    for file in GROUND {
        for (file, other) in used(&src.join(format!("{file}.rs"))) {
            assert!(floor(&other).is_none(), "{} uses {other}", file.display());
        }
    }
}

#[test]
fn every_room_has_its_floor() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).expect("a folder of sources") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.trim_end_matches(".rs");
        let known = FLOORS.contains(&&*name) || GROUND.contains(&stem);
        assert!(known || ["lib", "rooms"].contains(&stem), "{name}");
    }
}
