//! Where the windows of a sliding-window inference lie, and how much each voxel of a window counts.

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
        .map(|i| (i as f64 * spacing).round() as usize)
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

/// The weight of each voxel of a window: a Gaussian of sigma = extent / 8 along each axis around the centre, its
/// largest value 1, never below 1e-3 of it, so that a voxel seen by one window's corner alone keeps its precision.
pub fn gaussian_window(window: [usize; 3]) -> Vec<f32> {
    const FLOOR: f64 = 1e-3;
    let axis = |extent: usize| -> Vec<f64> {
        let (centre, sigma) = ((extent as f64 - 1.0) / 2.0, extent as f64 / 8.0);
        (0..extent)
            .map(|i| (-0.5 * ((i as f64 - centre) / sigma).powi(2)).exp())
            .collect()
    };
    let [d, h, w] = window.map(axis);
    let mut weights = Vec::with_capacity(d.len() * h.len() * w.len());
    for z in &d {
        for y in &h {
            weights.extend(w.iter().map(|x| (z * y * x).max(FLOOR) as f32));
        }
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
    fn the_gaussian_is_symmetric_and_peaks_in_the_centre() {
        let g = gaussian_window([4, 6, 8]);
        let reversed: Vec<f32> = g.iter().rev().copied().collect();
        assert_eq!(g, reversed);
        let peak = g.iter().copied().fold(0.0, f32::max);
        assert_eq!(peak, g[(2 * 6 + 3) * 8 + 4]);
        assert!(g.iter().all(|&v| v >= 1e-3));
    }
}
