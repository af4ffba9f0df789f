//! Which patch a device can hold.

use super::ModelError;
use crate::graph::GraphError;

/// The patch (D, H, W) that remains when `patch` loses `stride` along its longest axis until `plan` accepts it; `None`
/// where no multiple of `stride` does, or where size is not what `plan` refuses.
pub fn fitting_patch(
    stride: [usize; 3],
    mut patch: [usize; 3],
    mut plan: impl FnMut([usize; 3]) -> Result<(), ModelError>,
) -> Option<[usize; 3]> {
    loop {
        // Tensors grow with the voxels, so the excess says how far to go before it is worth planning again.
        let share = match plan(patch) {
            Ok(()) => return Some(patch),
            Err(ModelError::Graph(GraphError::TooLarge { bytes, limit, .. })) => {
                limit as f64 / bytes.max(1) as f64
            }
            // Parameters do not shrink with the patch, so that no larger share can fit.
            Err(ModelError::Graph(GraphError::Budget { budget, least })) => {
                budget as f64 / least.max(1) as f64
            }
            Err(ModelError::Graph(GraphError::Limit { .. })) => 1.0,
            Err(_) => return None,
        };
        let wanted = share * voxels(patch);
        patch = shorten(stride, patch)?;
        while voxels(patch) > wanted {
            patch = shorten(stride, patch)?;
        }
    }
}

fn voxels(patch: [usize; 3]) -> f64 {
    patch.iter().map(|&n| n as f64).product()
}

fn shorten(stride: [usize; 3], mut patch: [usize; 3]) -> Option<[usize; 3]> {
    let axis = (0..3)
        .filter(|&a| patch[a] > stride[a])
        .max_by_key(|&a| patch[a])?;
    patch[axis] -= stride[axis];
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that holds `most` voxels.
    fn holds(most: usize) -> impl FnMut([usize; 3]) -> Result<(), ModelError> {
        move |patch| {
            let voxels: usize = patch.iter().product();
            if voxels <= most {
                return Ok(());
            }
            let (bytes, limit) = (4 * voxels as u64, 4 * most as u64);
            let what = "x".to_owned();
            Err(GraphError::TooLarge { what, bytes, limit }.into())
        }
    }

    #[test]
    fn the_longest_axis_gives_way_until_it_fits() {
        let fitting = |patch, most| fitting_patch([8, 16, 16], patch, holds(most));
        assert_eq!(fitting([16, 32, 32], 1 << 20), Some([16, 32, 32]));
        assert_eq!(fitting([16, 64, 32], 16 * 48 * 32), Some([16, 48, 32]));
        let huge = fitting([4096, 4096, 4096], 1 << 20).unwrap();
        assert!(huge.iter().product::<usize>() <= 1 << 20, "{huge:?}");
    }

    #[test]
    fn a_budget_of_memory_counts_as_well() {
        let within = |patch: [usize; 3]| {
            let least = 1000 + 4 * patch.iter().product::<usize>() as u64;
            let budget = 1000 + 4 * 16 * 48 * 32;
            match least <= budget {
                true => Ok(()),
                false => Err(GraphError::Budget { budget, least }.into()),
            }
        };
        assert_eq!(
            fitting_patch([8, 16, 16], [16, 64, 32], within),
            Some([16, 48, 32])
        );
    }

    #[test]
    fn nothing_fits_a_device_that_is_too_small_for_the_weights() {
        assert_eq!(fitting_patch([8; 3], [64; 3], holds(0)), None);
        let config = |_| Err(ModelError::Config("no stage".into()));
        assert_eq!(fitting_patch([8; 3], [64; 3], config), None);
    }
}
