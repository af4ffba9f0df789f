//! Runs the binary in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use voxseg::volume::{Geometry, LabelMap, write_labels};

/// D, H, W of all label maps.
pub const SHAPE: [usize; 3] = [4, 6, 6];

/// Spacing D, H, W in mm of all label maps.
pub const SPACING: [f64; 3] = [2.0, 1.0, 1.0];

/// The binary with no variable that changes what it does.
pub fn voxseg() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voxseg"));
    command.env_remove("VOXSEG_ADAPTER").stdin(Stdio::null());
    command
}

/// The binary where the Vulkan loader finds no driver.
#[cfg(target_os = "linux")]
pub fn voxseg_without_adapter() -> Command {
    let mut command = voxseg();
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(variable, "/nonexistent");
    }
    command.env_remove("VK_ADD_DRIVER_FILES");
    command
}

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().expect("the binary starts");
        Self {
            code: status.code(),
            stdout: String::from_utf8(stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(stderr).expect("stderr is UTF-8"),
        }
    }

    /// Asserts success.
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Asserts the exit code of a user's fault, an error on stderr with all `words`, and no result.
    pub fn refused(self, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(2), "{self:#?}");
        assert!(self.stdout.is_empty(), "{self:#?}");
        let error = self.stderr.lines().rfind(|l| l.starts_with("error: "));
        let error = error.unwrap_or_else(|| panic!("no error line: {self:#?}"));
        for word in words {
            assert!(error.contains(word), "no `{word}` in {error}");
        }
        self
    }

    /// stdout as one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// A box of one label: `from` inclusive, `to` exclusive, both D, H, W.
#[derive(Clone, Copy)]
pub struct Block(pub u32, pub [usize; 3], pub [usize; 3]);

/// A temporary folder with `pred`, `truth` and helpers to fill them.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        for name in ["pred", "truth"] {
            std::fs::create_dir(folder.path(name)).expect("a new folder");
        }
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a label map of [`SHAPE`] with these boxes.
    pub fn labels(&self, name: &str, blocks: &[Block]) -> &Self {
        self.labels_on(name, Geometry::from_spacing(SHAPE, SPACING), blocks)
    }

    /// Writes a label map with these boxes on any geometry.
    pub fn labels_on(&self, name: &str, geometry: Geometry, blocks: &[Block]) -> &Self {
        let [_, height, width] = geometry.shape();
        let mut labels = vec![0; geometry.voxels()];
        for &Block(label, from, to) in blocks {
            for d in from[0]..to[0] {
                for h in from[1]..to[1] {
                    let row = (d * height + h) * width;
                    labels[row + from[2]..row + to[2]].fill(label);
                }
            }
        }
        let map = LabelMap::new(geometry, labels).expect("as many labels as voxels");
        write_labels(self.path(name), &map).expect("the label map is written");
        self
    }

    /// Writes a dataset.json at `name` with these labels and further keys.
    pub fn description(&self, name: &str, labels: Value, more: Value) -> &Self {
        let mut document = json!({
            "channel_names": {"0": "MRI"},
            "labels": labels,
            "numTraining": 1,
            "file_ending": ".nii.gz",
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            document[key] = value.clone();
        }
        self.bytes(name, document.to_string().as_bytes())
    }

    pub fn bytes(&self, name: &str, bytes: &[u8]) -> &Self {
        std::fs::write(self.path(name), bytes).expect("the file is written");
        self
    }

    /// Cuts a file to its first `share`.
    pub fn cut(&self, name: &str, share: f64) -> &Self {
        let bytes = std::fs::read(self.path(name)).expect("the file is there");
        let kept = (bytes.len() as f64 * share) as usize;
        self.bytes(name, &bytes[..kept])
    }

    /// `voxseg evaluate pred truth` with further arguments, run in this folder.
    pub fn evaluate(&self, arguments: &[&str]) -> Run {
        let mut command = voxseg();
        command.args(["evaluate", "pred", "truth"]).args(arguments);
        Run::of(command.current_dir(self.0.path()))
    }

    /// Names of all files in the folder itself, hidden ones among them, in order.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("the folder is there");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.expect("an entry");
            entry.file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort_unstable();
        names
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }
}
