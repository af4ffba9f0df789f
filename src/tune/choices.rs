//! Measured choices in files: a cache for the adapter, and a copy with the run that was trained with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Measured;
use crate::fsio::{is_users_fault, write_atomic};
use crate::gpu::{Constants, Gpu, Kernel};
use crate::hash::Fnv;
use crate::ops::kernels;

/// Why measured choices cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChoicesError {
    /// The file system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its words.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path}: {reason}. Delete the file; --tune makes it anew", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl ChoicesError {
    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_users_fault(source),
            Self::Corrupt { .. } => true,
        }
    }
}

/// The fastest kernel variant of each problem that was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelChoices {
    /// Adapter, backend and driver they were measured on.
    pub adapter: String,
    /// Hash of this version, its kernels' texts and specialisations: with another one the figures may be others.
    pub kernels: String,
    /// Variants by problem.
    pub variants: BTreeMap<String, String>,
}

impl KernelChoices {
    /// None yet, for this adapter and these kernels.
    pub fn none(gpu: &Gpu) -> Self {
        Self {
            adapter: gpu.describe(),
            kernels: kernels_hash(),
            variants: BTreeMap::new(),
        }
    }

    /// Adds what was measured.
    pub fn extend(&mut self, measured: &[Measured]) {
        let fastest = |m: &Measured| (m.problem.clone(), m.fastest().to_owned());
        self.variants.extend(measured.iter().map(fastest));
    }

    /// Those in a file; `None` where there is none, or where they are of another adapter, driver or version.
    ///
    /// # Errors
    /// [`ChoicesError`].
    pub fn read(path: &Path, gpu: &Gpu) -> Result<Option<Self>, ChoicesError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(ChoicesError::Io {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let choices: Self = serde_json::from_str(&text).map_err(|e| ChoicesError::Corrupt {
            path: path.to_owned(),
            reason: e.to_string(),
        })?;
        let fits = choices.adapter == gpu.describe() && choices.kernels == kernels_hash();
        Ok(fits.then_some(choices))
    }

    /// Writes them, whole or not at all.
    ///
    /// # Errors
    /// [`ChoicesError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), ChoicesError> {
        let io = |source| ChoicesError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        write_atomic(path, |w| {
            serde_json::to_writer_pretty(w, self).map_err(std::io::Error::from)
        })
        .map_err(io)
    }
}

/// Where the choices for this adapter are kept from run to run: below `VOXSEG_CACHE`, else the user's folder for
/// caches. `None` where the system names no such folder.
pub fn cache_file(gpu: &Gpu) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let folder = variable("VOXSEG_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            variable("XDG_CACHE_HOME")
                .or_else(|| variable("LOCALAPPDATA"))
                .map(|folder| PathBuf::from(folder).join("voxseg"))
        })
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache").join("voxseg")))?;
    let name = format!("kernels-{:016x}.json", Fnv::of(gpu.describe().as_bytes()));
    Some(folder.join(name))
}

fn kernels_hash() -> String {
    hash_of(&kernels(), env!("CARGO_PKG_VERSION"))
}

/// Whatever may make another kernel the fastest: the texts, the specialisations, and the rules that lower to them.
fn hash_of(kernels: &[(&'static Kernel, Vec<Constants>)], version: &str) -> String {
    let mut hash = Fnv::new();
    hash.add(version.as_bytes());
    for (kernel, specialisations) in kernels {
        hash.add(kernel.name.as_bytes());
        hash.add(kernel.source.as_bytes());
        for (name, value) in specialisations.iter().flatten() {
            hash.add(name.as_bytes());
            hash.add(&value.to_le_bytes());
        }
    }
    format!("{:016x}", hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_choices_are_of_one_version_and_of_its_specialisations() {
        let (mut kernels, now) = (kernels(), kernels_hash());
        assert_ne!(hash_of(&kernels, "0.0.0-other"), now);
        let tiled = kernels.iter_mut().flat_map(|(_, list)| list);
        let (_, value) = tiled.flatten().next().expect("a specialised kernel");
        *value += 1;
        assert_ne!(hash_of(&kernels, env!("CARGO_PKG_VERSION")), now);
    }
}
