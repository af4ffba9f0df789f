//! Label arrays with known surfaces.

use voxseg::metrics::Grid;

/// A grid that must be valid.
pub fn grid(shape: [usize; 3], spacing: [f64; 3]) -> Grid {
    Grid::new(shape, spacing).unwrap()
}

/// `[d, h, w]` of every voxel in memory order.
pub fn coordinates([depth, height, width]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..depth).flat_map(move |d| (0..height).flat_map(move |h| (0..width).map(move |w| [d, h, w])))
}

/// A box from `lo` inclusive to `hi` exclusive.
pub fn cuboid(shape: [usize; 3], lo: [usize; 3], hi: [usize; 3]) -> Vec<bool> {
    coordinates(shape)
        .map(|at| (0..3).all(|a| (lo[a]..hi[a]).contains(&at[a])))
        .collect()
}

/// Voxels whose centres lie within `radius` mm of the voxel `centre`.
pub fn ball(grid: &Grid, centre: [usize; 3], radius: f64) -> Vec<bool> {
    coordinates(grid.shape())
        .map(|at| distance_mm(at, centre, grid.spacing()) <= radius)
        .collect()
}

/// Between the centres of two voxels.
pub fn distance_mm(a: [usize; 3], b: [usize; 3], spacing: [f64; 3]) -> f64 {
    (0..3)
        .map(|axis| (a[axis].abs_diff(b[axis]) as f64 * spacing[axis]).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// A mask as labels 0 and `label`.
pub fn labels(mask: &[bool], label: u16) -> Vec<u16> {
    mask.iter()
        .map(|&inside| u16::from(inside) * label)
        .collect()
}
