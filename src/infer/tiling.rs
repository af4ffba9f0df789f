//! Where the windows of a sliding-window inference lie, and how much each voxel of a window counts.

use half::f16;

/// Window starts along one axis: as few as keep the distance between neighbours at or below `step` * `window`, spread
/// evenly and rounded (nnU-Net's rule). `size` must not be below `window`.
pub fn axis_starts(size: usize, window: usize, step: f64) -> Vec<usize> {
    let room = size.saturating_sub(window);
    if room == 0 {
        return vec![0];
    }
    let target = (window as f64 * step).max(1.0);
    let count = (room as f64 / target).ceil() as usize + 1;
    let spacing = room as f64 / (count - 1) as f64;
    (0..count)
        .map(|i| (i as f64 * spacing).round_ties_even() as usize)
        .collect()
}

/// The first voxel (D, H, W) of every window over a volume of `size`, D slowest.
pub fn window_starts(size: [usize; 3], window: [usize; 3], step: f64) -> Vec<[usize; 3]> {
    let axes: Vec<Vec<usize>> = (0..3)
        .map(|a| axis_starts(size[a], window[a], step))
        .collect();
    let mut starts = Vec::with_capacity(axes.iter().map(Vec::len).product());
    for &z in &axes[0] {
        for &y in &axes[1] {
            starts.extend(axes[2].iter().map(|&x| [z, y, x]));
        }
    }
    starts
}

/// The weight of each voxel of a window, nnU-Net's: 10 times a Gaussian of sigma = extent / 8 along each axis around voxel
/// extent / 2 (the later of the two in the middle), in half precision, with the smallest weight that is not 0 where it is.
pub fn gaussian_window(window: [usize; 3]) -> Vec<f32> {
    const PEAK: f64 = 10.0;
    let axis = |extent: usize| -> Vec<f64> {
        let (centre, sigma) = ((extent / 2) as f64, extent as f64 / 8.0);
        (0..extent)
            .map(|i| (-0.5 * ((i as f64 - centre) / sigma).powi(2)).exp())
            .collect()
    };
    let [d, h, w] = window.map(axis);
    let mut weights = Vec::with_capacity(d.len() * h.len() * w.len());
    for z in &d {
        for y in &h {
            let row = w.iter().map(|x| f16::from_f64(PEAK * z * y * x).to_f32());
            weights.extend(row);
        }
    }
    let above_0 = weights.iter().copied().filter(|&weight| weight > 0.0);
    let least = above_0.fold(PEAK as f32, f32::min);
    for weight in &mut weights {
        *weight = weight.max(least);
    }
    weights
}

/// All combinations of `axes` to mirror, the empty one first: 2^axes of them.
pub fn mirror_combinations(axes: &[usize]) -> Vec<Vec<usize>> {
    (0..1usize << axes.len())
        .map(|bits| {
            axes.iter()
                .enumerate()
                .filter(|(i, _)| bits >> i & 1 == 1)
                .map(|(_, &axis)| axis)
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_volume_with_steps_of_at_most_half_a_window() {
        for size in 32..200 {
            let starts = axis_starts(size, 32, 0.5);
            assert_eq!(starts[0], 0);
            assert_eq!(starts[starts.len() - 1], size - 32);
            assert!(starts.windows(2).all(|w| w[1] - w[0] <= 17), "{size}");
        }
    }

    #[test]
    fn windows_begin_where_nnunet_rounds_to_even() {
        // Spacings of 2.5 and 3.5 voxels.
        assert_eq!(axis_starts(11, 6, 0.5), [0, 2, 5]);
        assert_eq!(axis_starts(15, 8, 0.5), [0, 4, 7]);
    }

    #[test]
    fn the_gaussian_peaks_behind_the_middle_and_is_never_0() {
        let window = [4, 6, 9];
        let g = gaussian_window(window);
        let at = |[z, y, x]: [usize; 3]| f64::from(g[(z * window[1] + y) * window[2] + x]);
        assert_eq!(at([2, 3, 4]), 10.0);
        // One voxel from the centre along each axis: exp(-0.5 * (8 / extent)^2), to the 11 bits of half precision.
        for (place, extent) in [([1, 3, 4], 4.0f64), ([2, 2, 4], 6.0), ([2, 3, 5], 9.0)] {
            let expected = 10.0 * (-0.5 * (8.0 / extent).powi(2)).exp();
            assert!((at(place) / expected - 1.0).abs() < 5e-4, "{place:?}");
        }
        assert!(g.iter().all(|&v| v >= at([0, 0, 0]) as f32));
        assert!(at([0, 0, 0]) > 0.0);
    }
}
