//! Why weights cannot be read, matched or written.

use std::io;
use std::path::{Path, PathBuf};

use crate::dataset::DatasetError;
use crate::fsio::is_users_fault;
use crate::graph::GraphError;
use crate::models::ModelError;
use crate::run::checkpoint::CheckpointError;

/// Names of a list that a message shows.
const SHOWN: usize = 4;

/// The name of a V-Net's PReLU in MONAI, before a number.
const SLOPES: &str = ".act_function";

/// Why weights cannot be read, matched or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The system could not read or write.
    #[error("{}: cannot be {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Neither a PyTorch checkpoint nor safetensors.
    #[error("{}: holds no weights that are known here ({reason}). Give a file that torch.save wrote (.pth, .pt) or a .safetensors file", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        reason: &'static str,
    },
    /// A form of PyTorch's that is not read, and how to make one that is.
    #[error("{}: is {what}. Convert it in Python: torch.save({expression}, \"new.pth\")", path.display())]
    OtherForm {
        /// The file.
        path: PathBuf,
        /// The form.
        what: &'static str,
        /// What is to be saved.
        expression: &'static str,
    },
    /// Cut off or put together wrongly.
    #[error("{}: is damaged ({reason}). Get a whole copy of it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        reason: String,
    },
    /// The file asks for something that is no tensor, container, number or string.
    #[error("{}: asks for {name}, which is no part of a tensor; nothing of it was run. Trust a file like this only where you trust its author, and then save its weights alone in Python: torch.save(model.state_dict(), \"new.pth\")", path.display())]
    Forbidden {
        /// The file.
        path: PathBuf,
        /// The name that it asks for, `os.system`.
        name: String,
    },
    /// More than a checkpoint has.
    #[error("{}: has {what} beyond the limit of {limit}; no network's weights need as much", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// How much is read.
        limit: u64,
    },
    /// No dictionary of tensors where one is looked for.
    #[error("{}: holds no dictionary of tensors; it has {found}. Save one in Python: torch.save(model.state_dict(), \"new.pth\")", path.display())]
    NoTensors {
        /// The file.
        path: PathBuf,
        /// What it has instead.
        found: String,
    },
    /// A tensor that cannot be read.
    #[error("{}: tensor `{name}`: {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Its name.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The tensors are not those of the network.
    #[error("{} does not fit the network: {misfit}\n{}", path.display(), misfit.remedy())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// Which.
        misfit: Misfit,
    },
    /// A network or a preprocessing that there is not here.
    #[error("{}: {key} is {found}; voxseg has {known}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key, with dots for nesting.
        key: String,
        /// What stands there.
        found: String,
        /// What is understood.
        known: String,
    },
    /// Something that the user has to choose or to mend.
    #[error("{}: {problem}", path.display())]
    Input {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// The checkpoint of a run.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The plan or the labels.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The graph or the device.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl WeightsError {
    /// Whether the user can mend it (exit code 2) rather than us (exit code 1).
    pub fn is_users_fault(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_users_fault(source),
            Self::Checkpoint(e) => e.is_users_fault(),
            Self::Dataset(e) => e.is_users_fault(),
            Self::Model(e) => e.is_users_fault(),
            Self::Graph(e) => e.is_users_fault(),
            _ => true,
        }
    }

    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action: "read",
            source,
        }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn input(path: &Path, problem: impl Into<String>) -> Self {
        Self::Input {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}

/// A tensor that has another shape in the file than in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// Its name.
    pub name: String,
    /// Shape in the network, as PyTorch writes it.
    pub expected: Vec<usize>,
    /// Shape in the file.
    pub found: Vec<usize>,
}

/// In what the tensors of a file differ from those of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Misfit {
    /// Names that the network has and the file has not.
    pub missing: Vec<String>,
    /// Names that the file has and the network has not.
    pub unexpected: Vec<String>,
    /// Names that both have in different shapes.
    pub misshapen: Vec<Misshapen>,
    /// How many tensors the network has; 0 where that is not known.
    pub wanted: usize,
}

impl Misfit {
    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }

    /// Whether the file has no tensor of the network.
    fn is_of_another(&self) -> bool {
        self.wanted > 0 && self.missing.len() == self.wanted
    }

    /// What to do.
    fn remedy(&self) -> &'static str {
        let lacks_slopes = self.missing.iter().all(|name| name.contains(SLOPES));
        let is_else_whole = self.unexpected.is_empty() && self.misshapen.is_empty();
        match lacks_slopes && is_else_whole && !self.missing.is_empty() {
            true => {
                "Only the slopes of the PReLUs are missing: a V-Net with ELUs has none, give --model vnet_elu"
            }
            false => {
                "Give the weights of this very architecture: stages, features, kernels, channels and classes must be the same"
            }
        }
    }
}

impl std::fmt::Display for Misfit {
    /// A line for each kind of difference.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.is_of_another() {
            true => "it holds another network, none of whose tensors is of this one",
            false => "its tensors are not those",
        })?;
        let misshapen = self.misshapen.iter().map(|m| {
            let Misshapen {
                name,
                expected,
                found,
            } = m;
            format!("{name} {found:?} instead of {expected:?}")
        });
        let lists = [
            ("missing", self.missing.clone()),
            ("unexpected", self.unexpected.clone()),
            ("misshapen", misshapen.collect()),
        ];
        for (what, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            let shown = list[..list.len().min(SHOWN)].join(", ");
            let more = match list.len().saturating_sub(SHOWN) {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            write!(f, "\n{} {what}: {shown}{more}", list.len())?;
        }
        Ok(())
    }
}
