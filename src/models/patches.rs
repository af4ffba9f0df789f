//! What networks of tokens share: patches that tile images of one extent.

use super::ModelError;
use crate::graph::Graph;
use crate::ops::{Build, ValueId};

/// How many patches (D, H, W) tile an image of `extent` voxels.
///
/// # Errors
/// [`ModelError::Config`] where they do not.
pub(super) fn tokens_of(extent: [usize; 3], patch: [usize; 3]) -> Result<[usize; 3], ModelError> {
    let tiles = (0..3).all(|a| patch[a] > 0 && extent[a] > 0 && extent[a].is_multiple_of(patch[a]));
    if !tiles {
        return Err(ModelError::Config(format!(
            "`extent` (D, H, W) must be a multiple of the patch {patch:?}, found {extent:?}"
        )));
    }
    Ok([0, 1, 2].map(|a| extent[a] / patch[a]))
}

/// Checks that the image has the extent that the network's parameters are made for.
///
/// # Errors
/// [`ModelError::Config`].
pub(super) fn check_extent(
    graph: &Graph,
    image: ValueId,
    extent: [usize; 3],
) -> Result<(), ModelError> {
    let found = graph.shape(image).spatial();
    if found == extent {
        return Ok(());
    }
    Err(ModelError::Config(format!(
        "the network is made for images of {extent:?} voxels (D, H, W), found {found:?}: its parameters belong to places in them"
    )))
}
