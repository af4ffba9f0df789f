//! Dropout: mask, factor, statistics, and the same mask in backward.

use voxseg::ops::Operator;
use voxseg::ops::dropout::{Dropout, DropoutUnit, seed_bits};
use voxseg::reference::{Tolerance, dropout as reference};
use voxseg::tensor::{HostTensor, Shape};

use crate::harness::{Case, random};

/// A seed whose bits are those of a NaN, so that a kernel that read a number would show.
const SEED: u32 = 0xffc0_1234;

fn seed(bits: u32) -> (HostTensor<f64>, bool) {
    let data = vec![f64::from(seed_bits(bits))];
    let shape = Shape::scalar();
    (HostTensor { shape, data }, false)
}

fn op(p: f32, unit: DropoutUnit, salt: u32) -> Dropout {
    Dropout { p, unit, salt }
}

#[test]
fn the_mask_is_that_of_the_reference_forward_and_backward() {
    // Ordinary numbers keep their bits on the way through the reference's f64.
    const BITS: u32 = 0x4049_0fdb;
    for shape in [Shape::new(2, 3, 5, 6, 7), Shape::new(2, 9, 3, 5, 8)] {
        for unit in [DropoutUnit::Element, DropoutUnit::Channel] {
            let size = match unit {
                DropoutUnit::Element => 1,
                DropoutUnit::Channel => shape.voxels(),
            };
            let (x, dy) = (random(shape, 1), random(shape, 2));
            let p = 0.25;
            let apply = |t: &HostTensor<f64>| reference::apply(t, p, size, [BITS, 7]);
            let inputs = vec![(x.clone(), true), seed(BITS)];
            let name = format!("dropout {unit:?} of {shape}");
            let case = Case::new(name, op(p as f32, unit, 7), inputs);
            case.check_forward(&[apply(&x)], Tolerance::for_terms(1));
            let dx = apply(&dy);
            case.check_backward(&[Some(dy)], &[Some(dx), None], Tolerance::for_terms(1));
        }
    }
}

fn mask(bits: u32, salt: u32, p: f32) -> Vec<bool> {
    let shape = Shape::new(1, 4, 16, 32, 32);
    let x = HostTensor {
        shape,
        data: vec![1.0; shape.len()],
    };
    let case = Case::new(
        "mask",
        op(p, DropoutUnit::Element, salt),
        vec![(x, true), seed(bits)],
    );
    let found = case.run(false, None);
    found[0].data.iter().map(|&v| v != 0.0).collect()
}

/// How far the share of `hits` lies from `expected`, in standard deviations.
fn deviations(hits: usize, count: usize, expected: f64) -> f64 {
    let spread = (expected * (1.0 - expected) / count as f64).sqrt();
    (hits as f64 / count as f64 - expected).abs() / spread
}

#[test]
fn as_many_are_kept_as_asked_for_and_neighbours_do_not_know_each_other() {
    for p in [0.1_f32, 0.5, 0.9] {
        let kept = mask(3, 1, p);
        let keep = 1.0 - f64::from(p);
        let count = kept.iter().filter(|&&k| k).count();
        assert!(
            deviations(count, kept.len(), keep) < 4.0,
            "{count} kept at {p}"
        );
        // Neighbours along x, y, z and c.
        for step in [1, 32, 1024, 16_384] {
            let pairs = kept.len() - step;
            let both = (0..pairs).filter(|&i| kept[i] && kept[i + step]).count();
            let found = deviations(both, pairs, keep * keep);
            assert!(found < 5.0, "pairs {step} apart at {p}: {found} deviations");
        }
    }
}

#[test]
fn seeds_and_salts_draw_masks_of_their_own_and_the_same_ones_again() {
    let first = mask(3, 1, 0.5);
    assert_eq!(first, mask(3, 1, 0.5));
    for (seed, salt) in [(4, 1), (3, 2), (1, 3), (SEED, 1)] {
        let other = mask(seed, salt, 0.5);
        let same = first.iter().zip(&other).filter(|(a, b)| a == b).count();
        let found = deviations(same, first.len(), 0.5);
        assert!(found < 4.0, "seed {seed}, salt {salt}: {found} deviations");
    }
}

#[test]
fn nothing_is_dropped_at_p_0_and_p_1_is_refused() {
    assert!(mask(3, 1, 0.0).iter().all(|&k| k));
    let shapes = [Shape::new(1, 2, 1, 2, 2), Shape::scalar()];
    for p in [1.0, -0.1, f32::NAN] {
        let error = op(p, DropoutUnit::Element, 0).infer(&shapes).unwrap_err();
        assert!(error.to_string().contains("less than 1"), "{error}");
    }
}
