//! Where the foreground is: the voxels that patches are centred on.

use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::labels::Labels;

/// Voxels that are kept of a class at least, if it has as many.
const KEPT_AT_LEAST: usize = 10_000;

/// Of large classes one voxel in so many is kept.
const KEPT_SHARE: usize = 100;

/// Offsets of sampled voxels in `label` (D, H, W), ascending: one list per foreground class or region,
/// then, where there is an ignore label, one of all annotated voxels.
///
/// Of `n` voxels max(min(10,000, n), ceil(n / 100)) are kept, as nnU-Net does.
pub(super) fn sample_locations(
    label: &[u32],
    labels: &Labels,
    rng: &mut ChaCha8Rng,
) -> Vec<Vec<u64>> {
    let foreground = labels.foreground.iter();
    let mut lists: Vec<Vec<u64>> = foreground
        .map(|target| sample(label, |value| target.contains(value), rng))
        .collect();
    if let Some(ignore) = labels.ignore {
        lists.push(sample(label, |value| value != ignore, rng));
    }
    lists
}

fn sample(label: &[u32], wanted: impl Fn(u32) -> bool, rng: &mut ChaCha8Rng) -> Vec<u64> {
    let count = label.iter().filter(|&&value| wanted(value)).count();
    let kept = KEPT_AT_LEAST.min(count).max(count.div_ceil(KEPT_SHARE));
    // Ranks among the wanted voxels, so that no list of all of them is ever held.
    let mut ranks = index::sample(rng, count, kept).into_vec();
    ranks.sort_unstable();
    let mut ranks = ranks.into_iter().peekable();
    let voxels = label
        .iter()
        .enumerate()
        .filter(|(_, value)| wanted(**value));
    voxels
        .enumerate()
        .filter_map(|(rank, (offset, _))| ranks.next_if_eq(&rank).map(|_| offset as u64))
        .collect()
}
