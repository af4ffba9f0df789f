//! What a new run takes over: weights of others, or those of an earlier run.

use std::collections::BTreeMap;
use std::path::Path;

use super::{ClassifyError, Description};
use crate::graph::Graph;
use crate::infer::Weights;
use crate::nn::Mode;
use crate::run::checkpoint::{self, CheckpointInfo};
use crate::run::{NetworkTensor, RunFolder, network_tensors};
use crate::tensor::HostTensor;
use crate::weights::{Fitted, Misfit, WeightsError, WeightsFile, fit_shapes};

/// Weights for a network, and what they leave at its start.
pub(super) struct Inherited {
    tensors: BTreeMap<String, HostTensor>,
    /// What is told of it.
    pub words: String,
}

impl Inherited {
    /// The tensors of `source`, a file of weights or a run of a classifier, that have the name and the shape of one of the
    /// network. The names must be those of the network; what has another shape, such as a head for other classes, is left
    /// at its start and said so.
    ///
    /// # Errors
    /// [`ClassifyError::Weights`] with all that differs, where names do or less than half of the tensors fit.
    pub fn from(source: &Path, description: &Description) -> Result<Self, ClassifyError> {
        let mut graph = Graph::new();
        let image = graph.input("image", description.batch(2))?;
        let network = description.network()?;
        network.build(&mut graph, image, Mode::Training)?;
        let wanted = network_tensors(&graph);
        let (tensors, left) = match source.is_dir() {
            true => of_run(&RunFolder::new(source), &wanted)?,
            false => of_file(source, &wanted)?,
        };
        let (taken, of, source) = (tensors.len(), wanted.len(), source.display());
        let words = match left.is_empty() {
            true => format!("weights: all {of} tensors from {source}"),
            false => format!(
                "weights: {taken} of {of} tensors from {source}; of another shape, and left at their start: {}",
                left.join(", ")
            ),
        };
        Ok(Self { tensors, words })
    }

    /// Writes them as a checkpoint, which has no state of an optimiser.
    pub fn write(&self, path: &Path) -> Result<(), ClassifyError> {
        let info = CheckpointInfo {
            step: 0,
            best: None,
            average: None,
            configuration: String::new(),
        };
        Ok(checkpoint::write(path, &self.tensors, &info)?)
    }
}

/// Tensors that fit, and the names of those that do not.
type Taken = (BTreeMap<String, HostTensor>, Vec<String>);

fn of_file(path: &Path, wanted: &BTreeMap<String, NetworkTensor>) -> Result<Taken, ClassifyError> {
    let mut file = WeightsFile::open(path)?;
    let Fitted { tensors, left } = fit_shapes(&mut file, wanted)?;
    if 2 * tensors.len() < wanted.len() {
        let misfit = Misfit {
            misshapen: left,
            ..Misfit::default()
        };
        let path = path.to_owned();
        return Err(WeightsError::Misfit { path, misfit }.into());
    }
    let names = left.into_iter().map(|tensor| tensor.name);
    Ok((tensors, names.collect()))
}

/// A checkpoint also has the state of the optimiser, which is left out.
fn of_run(
    run: &RunFolder,
    wanted: &BTreeMap<String, NetworkTensor>,
) -> Result<Taken, ClassifyError> {
    // For its error alone: that it is no run of a classifier.
    Description::read(run)?;
    let path = Weights::Final.file(run);
    let mut found = checkpoint::load(&path)?.tensors;
    let (mut tensors, mut left, mut missing) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (name, NetworkTensor { shape, .. }) in wanted {
        match found.remove(name) {
            Some(tensor) if tensor.shape == *shape => drop(tensors.insert(name.clone(), tensor)),
            Some(_) => left.push(name.clone()),
            None => missing.push(name.clone()),
        }
    }
    if missing.is_empty() {
        return Ok((tensors, left));
    }
    let misfit = Misfit {
        missing,
        ..Misfit::default()
    };
    Err(WeightsError::Misfit { path, misfit }.into())
}
