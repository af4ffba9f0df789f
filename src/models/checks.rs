//! What configurations of networks with stages have in common that can be wrong.

use super::ModelError;
use crate::style::{Fault, LayerStyle};

/// Stages of a network, at most: as many halvings leave one voxel of more than can be numbered.
const MOST_STAGES: usize = 32;

/// Convolutions or residual blocks of a stage, at most: the deepest published networks have about a thousand layers.
pub(super) const MOST_BLOCKS: usize = 1000;

/// Checks that each list, given by its name, the entries it must have and those it has, is as long as it must be, in a network
/// of at least two stages.
pub(super) fn lengths(stages: usize, lists: &[(&str, usize, usize)]) -> Result<(), ModelError> {
    self::lists((stages, 2), lists)
}

/// [`lengths`] in a network of so many stages, and of so many at least.
pub(super) fn lists(
    (stages, least): (usize, usize),
    lists: &[(&str, usize, usize)],
) -> Result<(), ModelError> {
    if !(least..=MOST_STAGES).contains(&stages) {
        let reason = format!("a network must have {least} to {MOST_STAGES} stages, found {stages}");
        return Err(ModelError::Config(reason));
    }
    match lists.iter().find(|(_, expected, found)| expected != found) {
        None => Ok(()),
        Some((list, expected, found)) => Err(ModelError::Config(format!(
            "`{list}` must have {expected} entries for {stages} stages, found {found}"
        ))),
    }
}

/// Checks that each number of a list is from 1 to `most`.
pub(super) fn within(most: usize, what: &str, numbers: &[usize]) -> Result<(), ModelError> {
    match numbers.iter().find(|&n| !(1..=most).contains(n)) {
        None => Ok(()),
        Some(found) => Err(ModelError::Config(format!(
            "{what} must be from 1 to {most}, found {found}"
        ))),
    }
}

/// Checks the lists of a network whose stages have features, kernels and strides alike: one entry a stage, nothing 0, heads at
/// decoder stages. `ends` are the channels before and behind the stages.
pub(super) fn stages(
    features: &[usize],
    [kernels, strides]: [&[[usize; 3]]; 2],
    ends: &[usize],
    heads: &[usize],
) -> Result<(), ModelError> {
    let stages = features.len();
    let lists = [
        ("kernels", stages, kernels.len()),
        ("strides", stages, strides.len()),
    ];
    lengths(stages, &lists)?;
    let axes = kernels.iter().chain(strides).flatten();
    let numbers = features.iter().chain(axes).chain(ends);
    above_zero("channels, features, kernels and strides", numbers)?;
    self::heads(heads, stages - 1)
}

/// Checks that no number is 0.
pub(super) fn above_zero<'a>(
    what: &str,
    numbers: impl IntoIterator<Item = &'a usize>,
) -> Result<(), ModelError> {
    match numbers.into_iter().all(|&n| n > 0) {
        true => Ok(()),
        false => Err(ModelError::Config(format!("{what} must be above 0"))),
    }
}

/// Checks that none of the numbers, each with its name, is 0.
pub(super) fn positive<'a>(
    numbers: impl IntoIterator<Item = (&'a str, usize)>,
) -> Result<(), ModelError> {
    match numbers.into_iter().find(|&(_, n)| n == 0) {
        Some((name, _)) => Err(ModelError::Config(format!(
            "`{name}` must be above 0, found 0"
        ))),
        None => Ok(()),
    }
}

/// Checks the numbers of what follows each convolution.
pub(super) fn layers(style: &LayerStyle) -> Result<(), ModelError> {
    fault(style.fault())
}

/// Says what is wrong with a style, where anything is.
pub(super) fn fault(found: Option<Fault>) -> Result<(), ModelError> {
    match found {
        None => Ok(()),
        Some(fault) => Err(ModelError::Config(format!(
            "`{}` must be {}, found {}",
            fault.key, fault.expected, fault.found
        ))),
    }
}

/// Checks that the decoder stages with a head start with 0 and rise, and that there are as many stages.
pub(super) fn heads(heads: &[usize], decoder_stages: usize) -> Result<(), ModelError> {
    let rises = heads.windows(2).all(|pair| pair[0] < pair[1]);
    match (heads.first(), heads.last()) {
        (Some(0), Some(&last)) if rises && last < decoder_stages => Ok(()),
        _ => Err(ModelError::Config(format!(
            "`heads` must start with 0 and rise to at most {}, found {heads:?}",
            decoder_stages.saturating_sub(1),
        ))),
    }
}
