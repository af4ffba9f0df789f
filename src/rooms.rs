//! Rooms only look down: the picture in ARCHITECTURE.md, as a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The picture's arrows: each room, from the ground floor up, with the rooms that it may use besides what those may.
const ROOMS: [(&str, &[&str]); 22] = [
    ("tensor", &[]),
    ("gpu", &["tensor"]),
    ("reference", &["tensor"]),
    ("ops", &["gpu"]),
    ("graph", &["ops"]),
    ("nn", &["graph"]),
    ("losses", &["graph"]),
    ("optim", &["graph"]),
    ("models", &["nn", "losses", "optim"]),
    ("volume", &[]),
    ("dataset", &["volume"]),
    ("metrics", &[]),
    ("postprocess", &[]),
    ("report", &["metrics", "postprocess"]),
    ("run", &["models", "dataset", "metrics", "postprocess"]),
    ("infer", &["run"]),
    ("weights", &["run"]),
    ("tune", &["graph", "reference"]),
    (
        "train",
        &["infer", "weights", "tune", "losses", "optim", "report"],
    ),
    ("classify", &["train", "weights"]),
    (
        "cli",
        &[
            "classify",
            "train",
            "infer",
            "weights",
            "metrics",
            "postprocess",
            "report",
        ],
    ),
    ("main.rs", &["cli"]),
];

/// Files that every room may use, and that use none.
const GROUND: [&str; 6] = ["bytes", "fsio", "hash", "style", "table", "words"];

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

/// The rooms below `room`, along the arrows. A room may only point at one listed before it, so this ends.
fn below(room: &str) -> BTreeSet<&'static str> {
    let here = ROOMS.iter().position(|&(name, _)| name == room);
    let here = here.unwrap_or_else(|| panic!("the picture has no room {room}"));
    let mut found = BTreeSet::new();
    for &next in ROOMS[here].1 {
        let points_down = ROOMS[..here].iter().any(|&(name, _)| name == next);
        assert!(
            points_down,
            "{room} points at {next}, which is not below it"
        );
        found.insert(next);
        found.extend(below(next));
    }
    found
}

#[test]
fn rooms_use_what_lies_below_them_along_the_arrows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_room = |name: &str| ROOMS.iter().any(|&(room, _)| room == name);
    let mut seen = 0;
    for (room, _) in ROOMS {
        let allowed = below(room);
        for (file, other) in used(&src.join(room)) {
            if other == room || !is_room(&other) {
                continue;
            }
            let file = file.display();
            assert!(allowed.contains(&*other), "{file}: {room} uses {other}");
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} uses found");
    for file in GROUND {
        for (file, other) in used(&src.join(format!("{file}.rs"))) {
            assert!(!is_room(&other), "{} uses {other}", file.display());
        }
    }
}

#[test]
fn rooms_side_by_side_do_not_know_each_other() {
    for (room, stranger) in [
        ("dataset", "gpu"),
        ("dataset", "graph"),
        ("metrics", "graph"),
        ("graph", "reference"),
        ("losses", "nn"),
        ("tune", "dataset"),
    ] {
        assert!(!below(room).contains(stranger), "{room} -> {stranger}");
    }
}

#[test]
fn every_room_has_its_floor() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).expect("a folder of sources") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.trim_end_matches(".rs");
        let known = ROOMS.iter().any(|&(room, _)| room == name) || GROUND.contains(&stem);
        assert!(known || ["lib", "rooms"].contains(&stem), "{name}");
    }
}
