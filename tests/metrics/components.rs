use proptest::prelude::*;
use voxseg::postprocess::{Connectivity, PostprocessError, connected_components};

use crate::shapes::coordinates;

/// Number of the component of every voxel (0 is none) by flooding from each voxel in memory order.
fn flooded(mask: &[bool], shape: [usize; 3], connectivity: Connectivity) -> Vec<usize> {
    let most_steps = match connectivity {
        Connectivity::Faces => 1,
        Connectivity::Edges => 2,
        Connectivity::Corners => 3,
    };
    let voxels: Vec<[usize; 3]> = coordinates(shape).collect();
    let touch = |a: [usize; 3], b: [usize; 3]| {
        let steps: Vec<usize> = (0..3).map(|axis| a[axis].abs_diff(b[axis])).collect();
        steps.iter().all(|s| *s <= 1) && steps.iter().sum::<usize>() <= most_steps
    };
    let mut component = vec![0; mask.len()];
    let mut count = 0;
    for seed in 0..mask.len() {
        if !mask[seed] || component[seed] != 0 {
            continue;
        }
        count += 1;
        component[seed] = count;
        let mut open = vec![seed];
        while let Some(from) = open.pop() {
            for to in 0..mask.len() {
                if mask[to] && component[to] == 0 && touch(voxels[from], voxels[to]) {
                    component[to] = count;
                    open.push(to);
                }
            }
        }
    }
    component
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn components_match_a_flood_fill(
        shape in [1..5usize, 1..6usize, 1..8usize],
        bits in prop::collection::vec(any::<bool>(), 4 * 5 * 7),
        neighbours in prop::sample::select(vec![6u32, 18, 26]),
    ) {
        let mask = &bits[..shape.iter().product()];
        let connectivity = Connectivity::try_from(neighbours).unwrap();
        let components = connected_components(mask, shape, connectivity).unwrap();
        let mut found = vec![0; mask.len()];
        for (range, id) in components.ranges() {
            found[range].fill(id + 1);
        }
        let expected = flooded(mask, shape, connectivity);
        prop_assert_eq!(&found, &expected);
        for (id, &size) in components.sizes().iter().enumerate() {
            prop_assert_eq!(size, expected.iter().filter(|&&c| c == id + 1).count());
        }
    }
}

#[test]
fn diagonal_voxels_touch_by_edge_or_corner_only() {
    let count = |b: [usize; 3], connectivity| {
        let mask: Vec<bool> = coordinates([2, 2, 2])
            .map(|at| at == [0; 3] || at == b)
            .collect();
        let components = connected_components(&mask, [2, 2, 2], connectivity).unwrap();
        components.sizes().len()
    };
    use Connectivity::{Corners, Edges, Faces};
    assert_eq!(
        [Faces, Edges, Corners].map(|c| count([0, 0, 1], c)),
        [1, 1, 1]
    );
    assert_eq!(
        [Faces, Edges, Corners].map(|c| count([0, 1, 1], c)),
        [2, 1, 1]
    );
    assert_eq!(
        [Faces, Edges, Corners].map(|c| count([1, 1, 0], c)),
        [2, 1, 1]
    );
    assert_eq!(
        [Faces, Edges, Corners].map(|c| count([1, 1, 1], c)),
        [2, 2, 1]
    );
}

#[test]
fn bad_input_is_refused_and_an_empty_mask_has_no_component() {
    let refused = connected_components(&[true; 3], [1, 2, 2], Connectivity::Faces);
    assert!(matches!(refused, Err(PostprocessError::Length { .. })));
    let refused = Connectivity::try_from(8);
    assert_eq!(refused, Err(PostprocessError::Connectivity { found: 8 }));
    let none = connected_components(&[false; 4], [1, 2, 2], Connectivity::Faces).unwrap();
    assert_eq!((none.sizes().len(), none.largest()), (0, None));
    let nothing = connected_components(&[], [1, 2, 0], Connectivity::Corners).unwrap();
    assert_eq!(nothing.largest(), None);
}
