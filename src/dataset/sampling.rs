//! Drawing batches of patches, the same ones for the same seed and step.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::error::DatasetError;
use super::prepared::{Patch, PreparedCase};

/// A batch for one training step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Intensities, N, C, D, H, W.
    pub image: Vec<f32>,
    /// Labels, N, 1, D, H, W.
    pub target: Vec<f32>,
}

/// Where one patch of a batch comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchChoice {
    /// Index of the case.
    pub case: usize,
    /// First voxel (D, H, W); outside of the volume where the patch is larger.
    pub start: [isize; 3],
    /// Axes along which the patch is mirrored.
    pub mirrored: Vec<usize>,
    /// The stored voxel (D, H, W) that the patch was laid around, where it was.
    pub around: Option<[usize; 3]>,
}

/// How batches are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawing<'a> {
    /// Patches a batch.
    pub batch: usize,
    /// Extent (D, H, W) of a patch in voxels.
    pub patch: [usize; 3],
    /// Share of the patches that are laid around foreground, 0 to 1.
    pub foreground: f64,
    /// Axes (0 = D, 1 = H, 2 = W) along which a patch may be mirrored, each with probability 1/2.
    pub mirror_axes: &'a [usize],
}

/// Draws batch number `step`: everything follows from `seed` and `step`, so that a resumed run sees
/// the same batches.
///
/// Cases are drawn with replacement. The last patches of the batch, those with index >=
/// round(batch * (1 - foreground)), are laid around a random stored voxel of a class that is drawn
/// from those the case has; with a batch of one the patch is so with the probability `foreground`.
/// With an ignore label the others are laid around an annotated voxel. Patches keep within the
/// volume along every axis where it is large enough, and lie around its middle where not.
///
/// # Errors
/// [`DatasetError::Plan`] without cases or for an empty patch; [`DatasetError::Io`] and
/// [`DatasetError::Prepared`] where a case cannot be read.
pub fn draw_batch(
    cases: &[PreparedCase],
    seed: u64,
    step: u64,
    how: &Drawing,
) -> Result<Batch, DatasetError> {
    let choices = choose_patches(cases, seed, step, how)?;
    let patches: Vec<Patch> = choices
        .par_iter()
        .map(|choice| {
            let mut patch = cases[choice.case].read_patch(choice.start, how.patch)?;
            mirror(&mut patch.image, how.patch, &choice.mirrored);
            mirror(&mut patch.label, how.patch, &choice.mirrored);
            Ok(patch)
        })
        .collect::<Result<_, DatasetError>>()?;
    let images: Vec<&[f32]> = patches.iter().map(|p| p.image.as_slice()).collect();
    let labels: Vec<&[f32]> = patches.iter().map(|p| p.label.as_slice()).collect();
    Ok(Batch {
        image: images.concat(),
        target: labels.concat(),
    })
}

/// What [`draw_batch`] draws, without reading any image.
///
/// # Errors
/// As [`draw_batch`].
pub fn choose_patches(
    cases: &[PreparedCase],
    seed: u64,
    step: u64,
    how: &Drawing,
) -> Result<Vec<PatchChoice>, DatasetError> {
    check(cases, how)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step);
    let anywhere = (how.batch as f64 * (1.0 - how.foreground)).round_ties_even() as usize;
    (0..how.batch)
        .map(|index| {
            let case = rng.random_range(0..cases.len());
            let is_forced = if how.batch == 1 {
                rng.random_bool(how.foreground)
            } else {
                index >= anywhere
            };
            let around = choose_voxel(&cases[case], is_forced, &mut rng)?;
            let shape = cases[case].shape();
            Ok(PatchChoice {
                case,
                start: std::array::from_fn(|axis| {
                    let middle = around.map(|voxel| voxel[axis]);
                    choose_start(shape[axis], how.patch[axis], middle, &mut rng)
                }),
                mirrored: choose_axes(how.mirror_axes, &mut rng),
                around,
            })
        })
        .collect()
}

fn check(cases: &[PreparedCase], how: &Drawing) -> Result<(), DatasetError> {
    let refuse = |what, expected: &str, found: String| {
        Err(DatasetError::Plan {
            what,
            expected: expected.into(),
            found,
        })
    };
    if cases.is_empty() {
        return refuse("the cases to train on", "at least one", "none".into());
    }
    if let Some(other) = cases.iter().find(|c| c.channels() != cases[0].channels()) {
        return refuse(
            "the number of channels",
            "the same in all prepared cases",
            format!(
                "{} and, in {}, {}",
                cases[0].channels(),
                other.id(),
                other.channels()
            ),
        );
    }
    if how.patch.contains(&0) || how.batch == 0 {
        let found = format!("a batch of {} patches of {:?}", how.batch, how.patch);
        return refuse("batch and patch", "above 0", found);
    }
    if !(0.0..=1.0).contains(&how.foreground) {
        let found = how.foreground.to_string();
        return refuse("the share of foreground patches", "between 0 and 1", found);
    }
    if how.mirror_axes.iter().any(|&axis| axis > 2) {
        return refuse("mirror axes", "0, 1 or 2", format!("{:?}", how.mirror_axes));
    }
    Ok(())
}

/// The voxel a patch is laid around: foreground if wanted and there is some, else annotated where
/// not all of the case is.
fn choose_voxel(
    case: &PreparedCase,
    wants_foreground: bool,
    rng: &mut ChaCha8Rng,
) -> Result<Option<[usize; 3]>, DatasetError> {
    let counts = case.foreground();
    let present: Vec<usize> = (0..counts.len()).filter(|&i| counts[i] > 0).collect();
    let (list, count) = if wants_foreground && !present.is_empty() {
        let list = present[rng.random_range(0..present.len())];
        (list, counts[list])
    } else {
        match case.annotated() {
            Some(count) if count > 0 => (counts.len(), count),
            _ => return Ok(None),
        }
    };
    case.location(list, rng.random_range(0..count)).map(Some)
}

/// The first voxel of a patch along an axis.
fn choose_start(size: usize, patch: usize, middle: Option<usize>, rng: &mut ChaCha8Rng) -> isize {
    let Some(room) = size.checked_sub(patch) else {
        return -(((patch - size) / 2) as isize);
    };
    match middle {
        Some(middle) => middle.saturating_sub(patch / 2).min(room) as isize,
        None => rng.random_range(0..=room) as isize,
    }
}

fn choose_axes(axes: &[usize], rng: &mut ChaCha8Rng) -> Vec<usize> {
    axes.iter()
        .copied()
        .filter(|_| rng.random_bool(0.5))
        .collect()
}

/// Mirrors every channel of `data` (C, D, H, W with D, H, W = `extent`) in place along `axes`.
pub fn mirror(data: &mut [f32], extent: [usize; 3], axes: &[usize]) {
    for &axis in axes {
        let inner: usize = extent[axis + 1..].iter().product();
        for block in data.chunks_exact_mut(extent[axis] * inner) {
            let (mut low, mut high) = (0, extent[axis]);
            while low + 1 < high {
                high -= 1;
                let (front, back) = block.split_at_mut(high * inner);
                front[low * inner..][..inner].swap_with_slice(&mut back[..inner]);
                low += 1;
            }
        }
    }
}
