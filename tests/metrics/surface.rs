use proptest::prelude::*;
use voxseg::metrics::{Class, Convention, Grid, Settings, SurfaceDistances, evaluate_case};

use crate::shapes::{ball, coordinates, cuboid, distance_mm, grid, labels};

fn between(prediction: &[bool], truth: &[bool], grid: &Grid) -> SurfaceDistances {
    SurfaceDistances::between(prediction, truth, grid)
        .unwrap()
        .unwrap()
}

#[test]
fn equal_masks_are_at_distance_zero() {
    let grid = grid([8, 9, 10], [3.0, 1.0, 0.5]);
    let mask = cuboid([8, 9, 10], [1, 2, 3], [6, 7, 9]);
    let distances = between(&mask, &mask, &grid);
    assert_eq!(distances.hausdorff_mm(100.0), 0.0);
    assert_eq!(distances.nsd(0.0), 1.0);
}

/// Two parallel one-voxel sheets three slices apart: every distance is 3 slices.
#[test]
fn parallel_sheets_are_as_far_apart_as_their_slices() {
    let grid = grid([6, 5, 7], [2.5, 1.0, 1.0]);
    let lower = cuboid([6, 5, 7], [1, 0, 0], [2, 5, 7]);
    let upper = cuboid([6, 5, 7], [4, 0, 0], [5, 5, 7]);
    let distances = between(&lower, &upper, &grid);
    assert_eq!(distances.hd95_mm(), 7.5);
    assert_eq!(distances.nsd(7.4), 0.0);
    assert_eq!(distances.nsd(7.5), 1.0);
}

/// Cubes of 6³ voxels, 2 voxels apart along W. Of the 6³ - 4³ surface voxels of either, 40 lie 2
/// away (the trailing face of 36, and the middle 4 of the face inside the other cube), 32 lie 1 away
/// (a ring of 20, and 12 around those 4), the others on the other surface.
#[test]
fn shifted_cubes_have_the_distances_that_counting_gives() {
    let shape = [10, 10, 12];
    let first = cuboid(shape, [2, 2, 2], [8, 8, 8]);
    let second = cuboid(shape, [2, 2, 4], [8, 8, 10]);
    let distances = between(&second, &first, &grid(shape, [1.0; 3]));
    assert_eq!(distances.hd95_mm(), 2.0);
    assert_eq!(distances.nsd(0.0), 80.0 / 152.0);
    assert_eq!(distances.nsd(1.0), 112.0 / 152.0);
    assert_eq!(distances.nsd(2.0), 1.0);
}

/// A 2D bar of 1x10 pixels against the first 8 of them: the two left over are 1 and 2 pixels away.
#[test]
fn a_shortened_bar_has_known_percentiles_and_nsd() {
    let grid = grid([1, 3, 12], [1.0, 1.0, 2.0]);
    let truth = cuboid([1, 3, 12], [0, 1, 1], [1, 2, 11]);
    let prediction = cuboid([1, 3, 12], [0, 1, 1], [1, 2, 9]);
    let distances = between(&prediction, &truth, &grid);
    assert_eq!(distances.hausdorff_mm(100.0), 4.0);
    // Ten distances 0 x8, 2, 4: rank 0.95 * 9 = 8.55 lies between 2 and 4.
    assert!((distances.hd95_mm() - (2.0 + 0.55 * 2.0)).abs() < 1e-12);
    assert!((distances.nsd(1.0) - 16.0 / 18.0).abs() < 1e-12);
    assert!((distances.nsd(2.0) - 17.0 / 18.0).abs() < 1e-12);
}

/// Concentric balls of radius 12 and 9 mm: surfaces 3 mm apart, up to the lattice.
#[test]
fn concentric_balls_are_a_radius_apart() {
    let grid = grid([29, 57, 57], [1.0, 0.5, 0.5]);
    let centre = [14, 28, 28];
    let distances = between(&ball(&grid, centre, 12.0), &ball(&grid, centre, 9.0), &grid);
    let lattice = 1.0;
    assert!(
        (distances.hd95_mm() - 3.0).abs() < lattice,
        "{}",
        distances.hd95_mm()
    );
    assert!(distances.nsd(1.5) < 0.01);
    assert!(distances.nsd(4.0) > 0.99);
}

/// In one slice of a 3D image every voxel borders on what is outside above and below; in a 2D
/// image only the outline does.
#[test]
fn the_depth_axis_has_no_boundary_in_2d() {
    let whole = vec![true; 49];
    let dot = cuboid([1, 7, 7], [0, 3, 3], [1, 4, 4]);
    let flat = between(&whole, &dot, &grid([1, 7, 7], [1.0; 3]));
    // From the dot in the middle to the outline.
    assert_eq!(flat.hausdorff_mm(0.0), 3.0);

    let lift = |slice: &[bool]| [vec![false; 49], slice.to_vec()].concat();
    let deep = between(&lift(&whole), &lift(&dot), &grid([2, 7, 7], [1.0; 3]));
    assert_eq!(deep.hausdorff_mm(0.0), 0.0);
}

#[test]
fn the_image_border_is_a_boundary() {
    let grid = grid([3, 3, 3], [1.0; 3]);
    let centre = cuboid([3, 3, 3], [1, 1, 1], [2, 2, 2]);
    let distances = between(&[true; 27], &centre, &grid);
    assert_eq!(distances.hausdorff_mm(100.0), 3f64.sqrt());
}

#[test]
fn a_tolerance_holds_spacings_that_were_stored_as_f32() {
    let grid = grid([1, 1, 4], [1.0, 1.0, f64::from(1.2f32)]);
    let first = [true, false, false, false];
    let third = [false, false, true, false];
    assert_eq!(between(&first, &third, &grid).nsd(2.4), 1.0);
}

#[test]
fn an_empty_mask_has_no_surface() {
    let grid = grid([2, 2, 2], [1.0; 3]);
    let none = SurfaceDistances::between(&[false; 8], &[true; 8], &grid).unwrap();
    assert_eq!(none, None);
}

/// Sorted distances of one mask's surface voxels to the other's, by definition.
fn brute_force(from: &[bool], to: &[bool], grid: &Grid) -> Vec<f64> {
    let shape = grid.shape();
    let surface = |mask: &[bool]| -> Vec<[usize; 3]> {
        let index = |[d, h, w]: [usize; 3]| (d * shape[1] + h) * shape[2] + w;
        let is_inside = |at: [isize; 3]| {
            (0..3).all(|a| (0..shape[a] as isize).contains(&at[a]))
                && mask[index(at.map(|x| x as usize))]
        };
        let borders = |at: [usize; 3]| {
            let axes = if shape[0] == 1 { 1..3 } else { 0..3 };
            axes.flat_map(|axis| [(axis, -1), (axis, 1)])
                .any(|(axis, step)| {
                    let mut neighbour = at.map(|x| x as isize);
                    neighbour[axis] += step;
                    !is_inside(neighbour)
                })
        };
        coordinates(shape)
            .filter(|&at| mask[index(at)] && borders(at))
            .collect()
    };
    let targets = surface(to);
    let mut distances: Vec<f64> = surface(from)
        .into_iter()
        .map(|p| {
            let all = targets.iter().map(|&q| distance_mm(p, q, grid.spacing()));
            all.fold(f64::INFINITY, f64::min)
        })
        .collect();
    distances.sort_by(f64::total_cmp);
    distances
}

/// Rank-interpolated percentile, written out.
fn percentile_95(sorted: &[f64]) -> f64 {
    let rank = 0.95 * (sorted.len() - 1) as f64;
    let low = rank as usize;
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] * (1.0 - (rank - low as f64)) + sorted[high] * (rank - low as f64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Through `evaluate_case`, so that the crop to the box around both masks is tested as well.
    #[test]
    fn hd95_and_nsd_match_brute_force(
        shape in [1..6usize, 2..8usize, 2..8usize],
        spacing in [0.2..4.0f64, 0.2..4.0f64, 0.2..4.0f64],
        seed in prop::collection::vec(0..12u8, 2 * 5 * 7 * 7),
    ) {
        let grid = grid(shape, spacing);
        let (a, b) = seed.split_at(seed.len() / 2);
        // Sparse, so that boxes are smaller than the image and masks have holes.
        let mask = |values: &[u8]| -> Vec<bool> {
            values[..grid.voxels()].iter().map(|&v| v < 4).collect()
        };
        let (prediction, truth) = (mask(a), mask(b));
        prop_assume!(prediction.contains(&true) && truth.contains(&true));
        let tolerance = 1.0;
        let settings = Settings::new(vec![Class::new("x", [3])]).unwrap()
            .with_nsd_tolerance(tolerance).unwrap();
        let case = evaluate_case("c", &labels(&prediction, 3), &labels(&truth, 3), &grid, &settings).unwrap();
        let found = case.scores(&case.classes()[0], Convention::FailureCounts);

        let there = brute_force(&prediction, &truth, &grid);
        let back = brute_force(&truth, &prediction, &grid);
        let hd95 = percentile_95(&there).max(percentile_95(&back));
        let near = there.iter().chain(&back).filter(|d| **d <= tolerance).count();
        let nsd = near as f64 / (there.len() + back.len()) as f64;
        prop_assert!((found.hd95 - hd95).abs() <= 1e-9, "{} for {}", found.hd95, hd95);
        prop_assert!((found.nsd - nsd).abs() <= 1e-12, "{} for {}", found.nsd, nsd);
        prop_assert!(found.hd95 <= grid.diagonal_mm());
    }
}
