//! Checkpoints: weights, states, step and a hash of the configuration in one safetensors file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::NetworkTensor;
use super::container::{Entry, write_safetensors};
use crate::fsio::is_users_fault;
use crate::graph::{GraphError, Parameters};
use crate::tensor::{HostTensor, Shape};

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refused.
    #[error("{path}: {source}. Check the free space and the permissions of the folder", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its words.
        source: std::io::Error,
    },
    /// The file is no checkpoint of ours.
    #[error("{path} is not a whole checkpoint ({reason}). Put back a copy of it. Without one: `voxseg predict --checkpoint best` (or latest, final) takes another of the run; `voxseg train --resume` goes on from checkpoint_best.safetensors once that is copied over checkpoint_latest.safetensors, and begins at step 0 once checkpoint_latest.safetensors is deleted", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file belongs to another configuration.
    #[error(
        "{path} was written under another configuration or with other cases (hash {found}, this run has {expected}). Put back config.toml, plan.json, splits_final.json and the cases of the data set as they were, or start a new run in another folder",
        path = path.display()
    )]
    OtherConfiguration {
        /// The file.
        path: PathBuf,
        /// Hash of this run.
        expected: String,
        /// Hash in the file.
        found: String,
    },
    /// A tensor is missing or misshapen.
    #[error("{path} does not fit this network: {reason}. It is of another run: put back the checkpoint that belongs to plan.json beside it", path = path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Which tensors.
        reason: String,
    },
    /// The device failed.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl CheckpointError {
    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Graph(e) => e.is_users_fault(),
            Self::Io { source, .. } => is_users_fault(source),
            _ => true,
        }
    }
}

/// What a checkpoint says beside its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointInfo {
    /// Steps done.
    pub step: usize,
    /// Best validation Dice so far (exponential moving average), as bits so that nothing is lost in print.
    pub best: Option<f64>,
    /// The moving average itself.
    pub average: Option<f64>,
    /// Hash of the configuration that decides the numbers; empty where another program wrote what is in it.
    pub configuration: String,
}

impl CheckpointInfo {
    /// That of weights of another program after `step` steps.
    pub fn imported(step: usize) -> Self {
        Self {
            step,
            best: None,
            average: None,
            configuration: String::new(),
        }
    }
}

const FORMAT: &str = "voxseg checkpoint 1";

fn bits(value: Option<f64>) -> String {
    value.map_or(String::new(), |v| format!("{:016x}", v.to_bits()))
}

fn from_bits(text: &str) -> Option<f64> {
    u64::from_str_radix(text, 16).ok().map(f64::from_bits)
}

/// Writes all of `parameters` with `info`, whole or not at all. The same content gives the same bytes.
///
/// # Errors
/// [`CheckpointError::Io`] (a full disk), or the device's errors.
pub async fn save(
    path: &Path,
    parameters: &Parameters,
    info: &CheckpointInfo,
) -> Result<(), CheckpointError> {
    let mut tensors: BTreeMap<String, HostTensor> = BTreeMap::new();
    for name in parameters.names() {
        tensors.insert(name.to_owned(), parameters.read(name).await?);
    }
    write(path, &tensors, info)
}

/// Writes `tensors` with `info`, whole or not at all. The same content gives the same bytes.
///
/// # Errors
/// [`CheckpointError::Io`].
pub fn write(
    path: &Path,
    tensors: &BTreeMap<String, HostTensor>,
    info: &CheckpointInfo,
) -> Result<(), CheckpointError> {
    let metadata = serde_json::json!({
        "format": FORMAT,
        "step": info.step.to_string(),
        "best": bits(info.best),
        "average": bits(info.average),
        "configuration": info.configuration,
    });
    let listed = tensors.iter().map(|(name, tensor)| Entry {
        name,
        shape: &tensor.shape.0,
        data: &tensor.data,
    });
    let listed: Vec<Entry<'_>> = listed.collect();
    write_safetensors(path, &listed, metadata).map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    })
}

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    /// Step, best score, configuration.
    pub info: CheckpointInfo,
    /// Tensors by name.
    pub tensors: BTreeMap<String, HostTensor>,
}

/// Reads a checkpoint; a truncated or foreign file is an error, never a panic.
///
/// # Errors
/// [`CheckpointError::Io`] or [`CheckpointError::Corrupt`].
pub fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let content = std::fs::read(path).map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    })?;
    let corrupt = |reason: String| CheckpointError::Corrupt {
        path: path.to_owned(),
        reason,
    };
    let (_, metadata) = SafeTensors::read_metadata(&content).map_err(|e| corrupt(e.to_string()))?;
    let file = SafeTensors::deserialize(&content).map_err(|e| corrupt(e.to_string()))?;
    let entries = metadata.metadata().clone().unwrap_or_default();
    let entry = |key: &str| entries.get(key).map(String::as_str).unwrap_or_default();
    if entry("format") != FORMAT {
        return Err(corrupt(format!("its format is not `{FORMAT}`")));
    }
    let step = entry("step")
        .parse()
        .map_err(|_| corrupt("it does not say its step".into()))?;
    let tensors = file
        .tensors()
        .into_iter()
        .map(|(name, view)| Ok((name.clone(), host_tensor(&name, &view).map_err(corrupt)?)))
        .collect::<Result<_, CheckpointError>>()?;
    Ok(Checkpoint {
        path: path.to_owned(),
        info: CheckpointInfo {
            step,
            best: from_bits(entry("best")),
            average: from_bits(entry("average")),
            configuration: entry("configuration").to_owned(),
        },
        tensors,
    })
}

fn host_tensor(name: &str, view: &TensorView<'_>) -> Result<HostTensor, String> {
    let shape: [usize; 5] = view
        .shape()
        .try_into()
        .map_err(|_| format!("tensor `{name}` has {} axes, not 5", view.shape().len()))?;
    if view.dtype() != Dtype::F32 {
        return Err(format!("tensor `{name}` is {:?}, not F32", view.dtype()));
    }
    let data = view
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    HostTensor::from_vec(Shape(shape), data).ok_or_else(|| format!("tensor `{name}` is cut off"))
}

impl Checkpoint {
    /// Refuses a checkpoint of another configuration. One of another program has none, and fits any.
    ///
    /// # Errors
    /// [`CheckpointError::OtherConfiguration`].
    pub fn expect_configuration(&self, expected: &str) -> Result<(), CheckpointError> {
        let found = &self.info.configuration;
        if found == expected || found.is_empty() {
            return Ok(());
        }
        Err(CheckpointError::OtherConfiguration {
            path: self.path.clone(),
            expected: expected.to_owned(),
            found: self.info.configuration.clone(),
        })
    }

    /// The tensors that `wanted` names in the shapes that it says; others, such as the state of an optimiser, are left out.
    ///
    /// # Errors
    /// [`CheckpointError::Tensors`] with the missing and misshapen names.
    pub fn only(
        &self,
        wanted: &BTreeMap<String, NetworkTensor>,
    ) -> Result<BTreeMap<String, HostTensor>, CheckpointError> {
        self.check(
            wanted
                .iter()
                .map(|(name, tensor)| (name.as_str(), tensor.shape)),
        )?;
        let found = self.tensors.iter();
        let kept = found.filter(|(name, _)| wanted.contains_key(*name));
        Ok(kept.map(|(n, t)| (n.clone(), t.clone())).collect())
    }

    /// Copies all tensors over those of `parameters` that have their names; what else is there stays as it is.
    ///
    /// # Errors
    /// A tensor of another shape; the device's.
    pub fn insert_all(&self, parameters: &mut Parameters) -> Result<(), CheckpointError> {
        for (name, tensor) in &self.tensors {
            parameters.insert(name, tensor.shape, &tensor.data)?;
        }
        Ok(())
    }

    /// Copies the tensors over those of `parameters`, which must already be there (see [`Parameters::ensure`]) under
    /// the same names and shapes. `extra` tensors in the file are allowed (optimiser states, when inferring).
    ///
    /// # Errors
    /// [`CheckpointError::Tensors`] with the missing and misshapen names, before anything is changed.
    pub fn restore(&self, parameters: &mut Parameters) -> Result<(), CheckpointError> {
        let names: Vec<String> = parameters.names().map(str::to_owned).collect();
        let stored = names.iter().filter_map(|name| parameters.get(name));
        self.check(
            names
                .iter()
                .map(String::as_str)
                .zip(stored.map(|t| t.shape)),
        )?;
        for name in &names {
            let tensor = &self.tensors[name];
            parameters.insert(name, tensor.shape, &tensor.data)?;
        }
        Ok(())
    }

    /// Whether all of `expected` are there.
    fn check<'a>(
        &self,
        expected: impl Iterator<Item = (&'a str, Shape)>,
    ) -> Result<(), CheckpointError> {
        let problem = |(name, expected)| match self.tensors.get(name) {
            None => Some(format!("`{name}` is missing")),
            Some(t) if t.shape != expected => Some(format!(
                "`{name}` has shape {}, the network has {expected}",
                t.shape
            )),
            Some(_) => None,
        };
        let mut problems: Vec<String> = expected.filter_map(problem).collect();
        if problems.is_empty() {
            return Ok(());
        }
        problems.truncate(8);
        Err(CheckpointError::Tensors {
            path: self.path.clone(),
            reason: problems.join("; "),
        })
    }
}
