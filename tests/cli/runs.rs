//! Folders with a small data set in `data` and a configuration that takes seconds.

use std::process::Command;

use crate::harness::{Folder, Run, voxseg};
use crate::phantom::{Phantom, quick};

/// A folder with `phantom` in `data` and `quick.toml` beside it.
pub fn folder_with(phantom: &Phantom) -> Folder {
    let folder = Folder::new();
    phantom.write(&folder.path("data"));
    let config = format!("fold = \"all\"\n{}", quick(2));
    folder.bytes("quick.toml", config.as_bytes());
    folder
}

/// Takes seconds.
pub const QUICK: [&str; 2] = ["--config", "quick.toml"];

pub fn remove(folder: &Folder, name: &str) {
    std::fs::remove_file(folder.path(name)).expect("the file is there");
}

/// `voxseg train data -o run` with further arguments.
pub fn train(folder: &Folder, arguments: &[&str]) -> Run {
    let mut command = voxseg();
    command.args(["train", "data", "-o", "run"]).args(arguments);
    Run::of(command.current_dir(folder.root()))
}

/// The binary with these arguments where no file can grow beyond `blocks` of 512 bytes, as on a full disk.
#[cfg(unix)]
pub fn on_a_full_disk(folder: &Folder, blocks: usize, arguments: &[&str]) -> Run {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_voxseg")])
        .args(arguments)
        .env_remove("VOXSEG_ADAPTER");
    Run::of(command.current_dir(folder.root()))
}

/// Names of all files in a folder, hidden ones among them, in order.
pub fn names_in(folder: &Folder, name: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path(name)).expect("the folder is there");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("an entry");
        entry.file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort_unstable();
    names
}
