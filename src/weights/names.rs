//! Which tensor of a file is which of a network, and the way back.
//!
//! Our names are those of PyTorch's modules, so that a file fits as it is. A state dict has some of them several times:
//! all of `encoder.` again as `decoder.encoder.`, and `X.conv.weight` again as `X.all_modules.0.weight`; safetensors'
//! `save_model` keeps only the alphabetically first of them. Wrappers put `module.` (DistributedDataParallel) before all
//! names or `_orig_mod.` (torch.compile) anywhere into them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::error::{Misfit, Misshapen, WeightsError};
use super::file::WeightsFile;
use crate::graph::{Axes, Graph, Parameters};
use crate::run::{Entry, NetworkTensor, network_tensors, write_safetensors};
use crate::tensor::HostTensor;

/// The members of a block that have parameters, in the order of PyTorch's `all_modules`.
const MEMBERS: [&str; 3] = ["conv", "norm", "nonlin"];

/// Parts of names of what a state dict has and no network uses: the counters of PyTorch's batch norms, and the layer norms
/// of a cross attention in MONAI's transformer blocks without one.
const UNUSED: [&str; 2] = ["num_batches_tracked", "norm_cross_attn"];

/// The tensors of `file` that `wanted` names, in the shapes that it says.
///
/// Convolution weights of 2D networks, which lack the depth, get it; what is a vector for each token there is turned. Nothing may be missing, left over or of
/// another shape, but for second names of the same tensors and what no network uses.
///
/// # Errors
/// [`WeightsError::Misfit`] with all that differs; those of [`WeightsFile::read`].
pub fn fit(
    file: &mut WeightsFile,
    wanted: &BTreeMap<String, NetworkTensor>,
) -> Result<BTreeMap<String, HostTensor>, WeightsError> {
    let matched = matched(file, wanted, &|_| false, &[])?;
    Ok(matched.fitted.tensors)
}

/// What of a file fits a network that tells other classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The tensors that fit.
    pub tensors: BTreeMap<String, HostTensor>,
    /// Those that were left out: of heads for another number of classes, or of any other shape, as was asked for.
    pub left: Vec<Misshapen>,
}

/// What of a file fits a network that has other heads.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedBody {
    /// The tensors that fit, and those of heads for another number of classes, which were left out.
    pub fitted: Fitted,
    /// The tensors of heads for training alone that the file has not.
    pub absent: Vec<String>,
}

/// [`fit`] for a network with `classes` output channels, whatever their number in the file: heads for another number of
/// classes are left out. Of `heads`, the tensors of those that only training reads, the file may lack whole ones: other
/// libraries have many a network without deep supervision.
///
/// # Errors
/// As [`fit`].
pub fn fit_body(
    file: &mut WeightsFile,
    wanted: &BTreeMap<String, NetworkTensor>,
    classes: usize,
    heads: &[BTreeSet<String>],
) -> Result<FittedBody, WeightsError> {
    let is_head = |misshapen: &Misshapen| {
        let (expected, found) = (&misshapen.expected[..], &misshapen.found[..]);
        expected.first() == Some(&classes)
            && found.len() == expected.len()
            && found[1..] == expected[1..]
    };
    matched(file, wanted, &is_head, heads)
}

/// [`fit`] that leaves out whatever has another shape in the file; the names must be those of the network all the same.
///
/// # Errors
/// As [`fit`].
pub fn fit_shapes(
    file: &mut WeightsFile,
    wanted: &BTreeMap<String, NetworkTensor>,
) -> Result<Fitted, WeightsError> {
    let matched = matched(file, wanted, &|_| true, &[])?;
    Ok(matched.fitted)
}

fn matched(
    file: &mut WeightsFile,
    wanted: &BTreeMap<String, NetworkTensor>,
    is_left: &dyn Fn(&Misshapen) -> bool,
    may_lack: &[BTreeSet<String>],
) -> Result<FittedBody, WeightsError> {
    let shapes = shapes_of(file);
    let found = resolve(&shapes, wanted);
    let has_axes = |axes| {
        shapes
            .values()
            .any(|shape: &Vec<usize>| shape.len() == axes)
    };
    let planar = has_axes(4) && !has_axes(5);
    let mut misfit = Misfit {
        wanted: wanted.len(),
        ..Misfit::default()
    };
    let mut left = Vec::new();
    for (name, &NetworkTensor { shape, axes }) in wanted {
        match found.get(name) {
            None => misfit.missing.push(name.clone()),
            Some(Source { shape: other, .. }) if !axes.is_same(other, shape) => {
                let misshapen = Misshapen {
                    name: name.clone(),
                    expected: axes.extents(shape, planar),
                    found: other.to_vec(),
                };
                match is_left(&misshapen) {
                    true => left.push(misshapen),
                    false => misfit.misshapen.push(misshapen),
                }
            }
            Some(_) => {}
        }
    }
    let lacked = may_lack
        .iter()
        .filter(|head| head.iter().all(|name| !found.contains_key(name)));
    let lacked: BTreeSet<&String> = lacked.flatten().collect();
    let (absent, missing) = std::mem::take(&mut misfit.missing)
        .into_iter()
        .partition(|name| lacked.contains(name));
    misfit.missing = missing;
    let unexpected = found.keys().filter(|name| !wanted.contains_key(*name));
    misfit.unexpected = unexpected.cloned().collect();
    if !misfit.is_empty() {
        return Err(WeightsError::Misfit {
            path: file.path().to_owned(),
            misfit,
        });
    }
    let mut tensors = BTreeMap::new();
    let is_taken = |name: &String| left.iter().all(|head: &Misshapen| head.name != *name);
    for (name, &NetworkTensor { shape, axes }) in wanted.iter().filter(|(name, _)| is_taken(name)) {
        let Some(source) = found.get(name) else {
            continue;
        };
        let data = axes.inwards(shape, file.read(source.name)?);
        tensors.insert(name.clone(), HostTensor { shape, data });
    }
    Ok(FittedBody {
        fitted: Fitted { tensors, left },
        absent,
    })
}

/// The name in `file` of each tensor of a network with `wanted` that it has.
pub(super) fn sources(
    file: &WeightsFile,
    wanted: &BTreeMap<String, NetworkTensor>,
) -> BTreeMap<String, String> {
    let shapes = shapes_of(file);
    let found = resolve(&shapes, wanted).into_iter();
    let ours = found.filter(|(name, _)| wanted.contains_key(name));
    ours.map(|(name, source)| (name, source.name.to_owned()))
        .collect()
}

fn shapes_of(file: &WeightsFile) -> BTreeMap<String, Vec<usize>> {
    let shapes = file.shapes();
    shapes
        .map(|(name, shape)| (name.to_owned(), shape.to_vec()))
        .collect()
}

/// Puts the weights of `file` in place of those of the network in `graph`. What else `parameters` has, such as the state of an
/// optimiser, stays as it is.
///
/// # Errors
/// Those of [`fit`], before anything is changed; the device's.
pub fn load_into(
    file: &mut WeightsFile,
    graph: &Graph,
    parameters: &mut Parameters,
) -> Result<(), WeightsError> {
    for (name, tensor) in fit(file, &network_tensors(graph))? {
        parameters.insert(&name, tensor.shape, &tensor.data)?;
    }
    Ok(())
}

/// Writes `tensors` for PyTorch, whole or not at all: under the names of its modules, each once, and with the axes that
/// `kept` says, those of a 2D network (`planar`) without the depth.
///
/// # Errors
/// [`WeightsError::Io`].
pub fn save_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, HostTensor>,
    kept: &BTreeMap<String, NetworkTensor>,
    planar: bool,
) -> Result<(), WeightsError> {
    let axes = |name: &String, shape| kept.get(name).map_or(Axes::usual(shape), |t| t.axes);
    let turned: Vec<(Vec<usize>, Vec<f32>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let axes = axes(name, tensor.shape);
            let extents = axes.extents(tensor.shape, planar);
            (extents, axes.outwards(tensor.shape, &tensor.data))
        })
        .collect();
    let listed = tensors.keys().zip(&turned);
    let entries: Vec<Entry<'_>> = listed
        .map(|(name, (shape, data))| Entry { name, shape, data })
        .collect();
    let metadata = serde_json::json!({"format": "pt"});
    write_safetensors(path, &entries, metadata).map_err(|source| WeightsError::Io {
        path: path.to_owned(),
        action: "written",
        source,
    })
}

/// Where a tensor of a network lies in a file.
struct Source<'a> {
    /// Its name there.
    name: &'a str,
    shape: &'a [usize],
    /// Names that are not its own come after those that are.
    rank: u8,
}

/// The tensors of a file under the names that a network with `wanted` has for them.
fn resolve<'a>(
    shapes: &'a BTreeMap<String, Vec<usize>>,
    wanted: &BTreeMap<String, NetworkTensor>,
) -> BTreeMap<String, Source<'a>> {
    let mut cleaned = BTreeMap::new();
    let mut positions: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (name, shape) in shapes {
        let (clean, is_alias) = without_wrappers(name);
        if clean.split('.').any(|part| UNUSED.contains(&part)) {
            continue;
        }
        if let Some((block, position, _)) = twin(&clean) {
            positions
                .entry(block.to_owned())
                .or_default()
                .insert(position);
        }
        cleaned.insert(name, (clean, is_alias, shape));
    }
    let theirs = cleaned.values().map(|(clean, ..)| clean.as_str());
    let known: BTreeSet<String> = theirs
        .chain(wanted.keys().map(String::as_str))
        .map(str::to_owned)
        .collect();
    let mut found = BTreeMap::new();
    for (name, (clean, is_alias, shape)) in cleaned {
        let is_twin = twin(&clean).is_some();
        let target = twin(&clean)
            .and_then(|(block, position, leaf)| {
                let rank = positions.get(block)?.iter().position(|&p| p == position)?;
                Some(format!("{block}{}.{leaf}", member(&known, block, rank)?))
            })
            .unwrap_or(clean);
        let source = Source {
            name,
            shape,
            rank: 2 * u8::from(is_twin) + u8::from(is_alias),
        };
        match found.get(&target) {
            Some(Source { rank, .. }) if *rank <= source.rank => {}
            _ => drop(found.insert(target, source)),
        }
    }
    found
}

/// The member number `rank` of those with parameters in the block `block`, as the other names tell.
fn member(known: &BTreeSet<String>, block: &str, rank: usize) -> Option<&'static str> {
    let mut there = MEMBERS.into_iter().filter(|member| {
        let prefix = format!("{block}{member}.");
        let after = known.range(prefix.clone()..).next();
        after.is_some_and(|name| name.starts_with(&prefix))
    });
    there.nth(rank)
}

/// A name without what wrappers add, and whether it is the decoder's alias of the encoder.
fn without_wrappers(name: &str) -> (String, bool) {
    let parts = name.split('.').skip_while(|part| *part == "module");
    let parts: Vec<&str> = parts.filter(|part| *part != "_orig_mod").collect();
    match parts.as_slice() {
        ["decoder", "encoder", ..] => (parts[1..].join("."), true),
        all => (undotted(all.join(".")), false),
    }
}

/// The name that torchvision's modules have for a layer of a dense block, `denselayer1.norm1`: its files are older than
/// the modules and have `denselayer1.norm.1`.
fn undotted(name: String) -> String {
    if !name.contains(".denselayer") {
        return name;
    }
    let layers = ["norm", "conv"].into_iter();
    let numbered = layers.flat_map(|layer| [1, 2].map(|number| (layer, number)));
    numbered.fold(name, |name, (layer, number)| {
        name.replace(
            &format!(".{layer}.{number}."),
            &format!(".{layer}{number}."),
        )
    })
}

/// Block (with its dot), position and leaf of `BLOCK.all_modules.POSITION.LEAF`.
fn twin(name: &str) -> Option<(&str, usize, &str)> {
    let (block, rest) = name.split_once("all_modules.")?;
    let (position, leaf) = rest.split_once('.')?;
    Some((block, position.parse().ok()?, leaf))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_dense_blocks_have_two_names_in_files_of_torchvision() {
        for (theirs, ours) in [
            (
                "features.denseblock1.denselayer2.norm.1.running_mean",
                "features.denseblock1.denselayer2.norm1.running_mean",
            ),
            (
                "module.features.denseblock4.denselayer16.conv.2.weight",
                "features.denseblock4.denselayer16.conv2.weight",
            ),
            (
                "features.transition1.norm.weight",
                "features.transition1.norm.weight",
            ),
            (
                "denseBlocksDown.0.layers.1.conv.weight",
                "denseBlocksDown.0.layers.1.conv.weight",
            ),
            ("down.norm.1.weight", "down.norm.1.weight"),
        ] {
            assert_eq!(without_wrappers(theirs), (ours.to_owned(), false));
        }
    }
}
