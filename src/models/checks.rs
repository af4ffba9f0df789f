//! What configurations of networks with stages have in common that can be wrong.

use super::ModelError;
use crate::style::LayerStyle;

/// Checks that each list, given by its name, the entries it must have and those it has, is as long as it must be.
pub(super) fn lengths(stages: usize, lists: &[(&str, usize, usize)]) -> Result<(), ModelError> {
    if stages < 2 {
        let reason = format!("a network must have at least 2 stages, found {stages}");
        return Err(ModelError::Config(reason));
    }
    match lists.iter().find(|(_, expected, found)| expected != found) {
        None => Ok(()),
        Some((list, expected, found)) => Err(ModelError::Config(format!(
            "`{list}` must have {expected} entries for {stages} stages, found {found}"
        ))),
    }
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
    match style.fault() {
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
            decoder_stages - 1,
        ))),
    }
}
