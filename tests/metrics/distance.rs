use proptest::prelude::*;
use voxseg::metrics::edt;

use crate::shapes::{coordinates, distance_mm, grid};

/// Every pair of voxels, the definition itself.
fn brute_force(sources: &[bool], queries: &[bool], shape: [usize; 3], s: [f64; 3]) -> Vec<f64> {
    let marked = |mask: &[bool]| -> Vec<[usize; 3]> {
        let all = coordinates(shape).zip(mask.to_vec());
        all.filter(|(_, marked)| *marked)
            .map(|(at, _)| at)
            .collect()
    };
    let sources = marked(sources);
    let nearest = |q: [usize; 3]| {
        let distances = sources.iter().map(|&p| distance_mm(p, q, s));
        distances.fold(f64::INFINITY, f64::min)
    };
    marked(queries).into_iter().map(nearest).collect()
}

type Case = ([usize; 3], [f64; 3], Vec<bool>, Vec<bool>);

fn cases() -> impl Strategy<Value = Case> {
    let shape = [1..6usize, 1..8usize, 1..9usize];
    let spacing = [0.1..5.0f64, 0.1..5.0f64, 0.1..5.0f64];
    (shape, spacing, 0.02..0.6f64).prop_flat_map(|(shape, spacing, density)| {
        let n = shape.iter().product::<usize>();
        let mask = prop::collection::vec(prop::bool::weighted(density), n);
        let queries = prop::collection::vec(any::<bool>(), n);
        (Just(shape), Just(spacing), mask, queries)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_transform_is_exact((shape, spacing, sources, queries) in cases()) {
        let found = edt::distances(&sources, &queries, &grid(shape, spacing)).unwrap();
        let expected = brute_force(&sources, &queries, shape, spacing);
        prop_assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let same = *found == expected || (found - expected).abs() <= 1e-12 * expected;
            prop_assert!(same, "{} for {}", found, expected);
        }
    }
}

#[test]
fn no_source_is_infinitely_far() {
    let grid = grid([2, 3, 4], [1.0; 3]);
    let found = edt::distances(&[false; 24], &[true; 24], &grid).unwrap();
    assert_eq!(found, [f64::INFINITY; 24]);
}

#[test]
fn arrays_of_the_wrong_length_are_refused() {
    let grid = grid([2, 3, 4], [1.0; 3]);
    assert!(edt::distances(&[true; 23], &[true; 24], &grid).is_err());
    assert!(edt::distances(&[true; 24], &[true; 25], &grid).is_err());
}
