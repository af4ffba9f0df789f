//! The zip container of a PyTorch checkpoint: `ROOT/data.pkl`, `ROOT/byteorder`, `ROOT/data/0`, ...

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rawzip::{
    CompressionMethod, FileReader, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder,
};

use super::error::WeightsError;

/// Largest pickle that is read, in bytes. Numbers of tensors lie beside it; nnU-Net's takes a few hundred kilobytes.
pub(super) const LARGEST_PICKLE: u64 = 32 << 20;

/// Most files in an archive: one a storage.
const MOST_ENTRIES: usize = 1 << 20;

const PICKLE: &str = "data.pkl";

/// A file of the archive.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at: ZipArchiveEntryWayfinder,
    bytes: u64,
}

/// An archive, open.
pub(super) struct Archive {
    path: PathBuf,
    zip: ZipArchive<FileReader>,
    entries: BTreeMap<String, Entry>,
    root: String,
    pub(super) big_endian: bool,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} entries", self.path.display(), self.entries.len())
    }
}

impl Archive {
    /// Opens the archive at `path` and finds where its files lie.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = File::open(path).map_err(|e| WeightsError::read(path, e))?;
        let damaged = |e: rawzip::Error| WeightsError::damaged(path, e.to_string());
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let zip = ZipArchive::from_file(file, &mut buffer).map_err(damaged)?;
        let mut entries = BTreeMap::new();
        let mut listed = zip.entries(&mut buffer);
        while let Some(entry) = listed.next_entry().map_err(damaged)? {
            let name = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
            if entry.compression_method() != CompressionMethod::STORE {
                return Err(WeightsError::OtherForm {
                    path: path.to_owned(),
                    what: "compressed, which torch.save never does: it was packed by another program",
                    expression: "torch.load(OLD)",
                });
            }
            let (at, bytes) = (entry.wayfinder(), entry.uncompressed_size_hint());
            entries.insert(name, Entry { at, bytes });
            if entries.len() > MOST_ENTRIES {
                return Err(WeightsError::TooLarge {
                    path: path.to_owned(),
                    what: "files in its archive",
                    limit: MOST_ENTRIES as u64,
                });
            }
        }
        let root = root_of(&entries).ok_or_else(|| WeightsError::Unknown {
            path: path.to_owned(),
            reason: "it is a zip archive without a data.pkl",
        })?;
        if entries.contains_key(&format!("{root}constants.pkl")) {
            return Err(WeightsError::OtherForm {
                path: path.to_owned(),
                what: "a TorchScript program, not a checkpoint",
                expression: "torch.jit.load(OLD).state_dict()",
            });
        }
        let mut archive = Self {
            path: path.to_owned(),
            zip,
            entries,
            root,
            big_endian: false,
        };
        archive.big_endian = archive.byte_order()?;
        Ok(archive)
    }

    /// Whether numbers are stored with the highest byte first. Early versions did not say, and wrote the lowest first.
    fn byte_order(&self) -> Result<bool, WeightsError> {
        const FILE: &str = "byteorder";
        if !self.entries.contains_key(&format!("{}{FILE}", self.root)) {
            return Ok(false);
        }
        match self.read(FILE, 16)?.as_slice() {
            b"little" => Ok(false),
            b"big" => Ok(true),
            other => {
                let found = String::from_utf8_lossy(other).into_owned();
                let reason = format!("its byte order is `{found}`, neither little nor big");
                Err(WeightsError::damaged(&self.path, reason))
            }
        }
    }

    /// The pickle.
    pub(super) fn pickle(&self) -> Result<Vec<u8>, WeightsError> {
        self.read(PICKLE, LARGEST_PICKLE)
    }

    /// The numbers of the storage `key`, which must be `bytes` long.
    pub(super) fn storage(&self, key: &str, bytes: u64) -> Result<Vec<u8>, WeightsError> {
        let content = self.read(&format!("data/{key}"), bytes)?;
        if content.len() as u64 == bytes {
            return Ok(content);
        }
        let reason = format!(
            "storage {key} has {} bytes, its pickle promises {bytes}",
            content.len()
        );
        Err(WeightsError::damaged(&self.path, reason))
    }

    /// The content of a file of at most `limit` bytes. No more is allocated than is really there.
    fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, WeightsError> {
        let name = format!("{}{name}", self.root);
        let damaged = |reason: String| WeightsError::damaged(&self.path, reason);
        let missing = || damaged(format!("it has no file {name}"));
        let entry = self.entries.get(&name).ok_or_else(missing)?;
        if entry.bytes > limit {
            let reason = format!(
                "its file {name} has {} bytes, more than {limit}",
                entry.bytes
            );
            return Err(damaged(reason));
        }
        let found = self.zip.get_entry(entry.at);
        let found = found.map_err(|e| damaged(format!("{name}: {e}")))?;
        let mut content = Vec::new();
        let verified = found.verifying_reader(found.reader());
        verified
            .take(limit + 1)
            .read_to_end(&mut content)
            .map_err(|e| damaged(format!("{name}: {e}")))?;
        Ok(content)
    }
}

/// What stands before `data.pkl` in its name: a folder, with its stroke.
fn root_of(entries: &BTreeMap<String, Entry>) -> Option<String> {
    let mut roots = entries.keys().filter_map(|name| {
        let root = name.strip_suffix(PICKLE)?;
        let is_root = root.is_empty() || root.ends_with('/') && root.matches('/').count() == 1;
        is_root.then(|| root.to_owned())
    });
    roots.next()
}
