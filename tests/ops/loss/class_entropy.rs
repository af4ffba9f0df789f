//! Cross-entropy of images with one class each.

use voxseg::ops::Operator;
use voxseg::ops::loss::ClassEntropy;
use voxseg::reference::Tolerance;
use voxseg::reference::loss as reference;
use voxseg::tensor::Shape;

use super::problem::{Tensor, labels, scalar};
use super::stored;
use crate::fixtures::Fixture;
use crate::harness::{Case, check_reference_gradient, random_in};

/// WGSL allows exp an error of 3 + 2 |x| units in the last place: 35 for logits that differ by 16, below three times the
/// 12 units of a single term.
const EXP: f64 = 3.0;

fn logits(samples: usize, classes: usize) -> Tensor {
    random_in(Shape::new(samples, classes, 1, 1, 1), 1, -8.0, 8.0)
}

fn classes_of(x: &Tensor) -> Tensor {
    labels(x.shape, 2, x.shape.c() as u32 - 1)
}

fn check(name: &str, [x, target]: [Tensor; 2], smoothing: f32, loss: f64, dx: Tensor) {
    const DLOSS: f64 = -1.75;
    let tolerance = Tolerance::for_terms(x.shape.c()).amplified(EXP);
    let case = Case::new(
        name,
        ClassEntropy { smoothing },
        vec![(x, true), (target, true)],
    );
    for embed in [false, true] {
        let found = case.run(embed, None);
        let deviation = tolerance.compare(name, &found[0], &scalar(loss));
        println!("{name}: {:?}", deviation.unwrap());
    }
    let mut expected = dx;
    expected.data.iter_mut().for_each(|d| *d *= DLOSS);
    let dys = [Some(scalar(DLOSS)), None];
    case.check_backward(&dys, &[Some(expected), None], tolerance);
}

fn check_reference(name: &str, x: Tensor, target: Tensor, smoothing: f32) {
    let truth = reference::class_entropy(&x, &target, f64::from(smoothing));
    check(name, [x, target], smoothing, truth.loss, truth.gradient);
}

#[test]
fn any_number_of_classes_and_samples_matches_the_reference() {
    for (samples, classes) in [
        (1, 2),
        (5, 2),
        (3, 10),
        (300, 7),
        (2, 64),
        (3, 65),
        (4, 1000),
    ] {
        for smoothing in [0.0, 0.125] {
            let x = logits(samples, classes);
            let target = classes_of(&x);
            let name = format!("{classes} classes, {samples} samples, smoothing {smoothing}");
            check_reference(&name, x, target, smoothing);
        }
    }
}

#[test]
fn confident_and_large_logits_keep_their_digits() {
    // The true class leads by so much that 1 - p is far below the epsilon of 1, or trails by more than exp can hold.
    for lead in [9.0, 20.0, -200.0] {
        let mut x = random_in(Shape::new(3, 10, 1, 1, 1), 4, -1.0, 1.0);
        let target = classes_of(&x);
        for (logits, class) in x.data.chunks_exact_mut(10).zip(&target.data) {
            logits
                .iter_mut()
                .for_each(|v| *v = (*v * 64.0).round() / 64.0 + 1000.0);
            logits[*class as usize] += lead;
        }
        let truth = reference::class_entropy(&x, &target, 0.0);
        let tolerance = Tolerance::for_terms(10).amplified(EXP);
        let case = Case::new(
            format!("a lead of {lead}"),
            ClassEntropy { smoothing: 0.0 },
            vec![(x, true), (target, true)],
        );
        let found = case.run(false, None);
        let loss = tolerance.compare("loss", &found[0], &scalar(truth.loss));
        println!("lead {lead}: {:?}", loss.unwrap());
        let wanted = [Some(truth.gradient), None];
        let dys = [Some(scalar(1.0)), None];
        case.in_f32().check_backward(&dys, &wanted, tolerance);
    }
}

#[test]
fn a_number_that_is_no_class_adds_nothing() {
    let x = logits(4, 3);
    let mut target = classes_of(&x);
    (target.data[1], target.data[3]) = (3.0, -1.0);
    check_reference("no class", x, target, 0.25);
}

#[test]
fn the_reference_matches_central_differences() {
    for smoothing in [0.0, 0.2] {
        let x = logits(3, 5);
        let target = classes_of(&x);
        let gradient = reference::class_entropy(&x, &target, smoothing).gradient;
        check_reference_gradient("class entropy", &x, &gradient, &scalar(1.0), |x| {
            scalar(reference::class_entropy(x, &target, smoothing).loss)
        });
    }
}

#[test]
fn pytorch_says_the_same() {
    let fixture = Fixture::load("losses");
    let mut seen = 0;
    for case in fixture.cases().filter(|c| c.op() == "class_entropy") {
        let [x, target, dx] = ["x", "target", "dx"].map(|key| stored(&case, key, 1).unwrap());
        let smoothing = case.number("smoothing");
        let loss = case.number("loss");
        let name = format!("PyTorch {}", case.name());
        let truth = reference::class_entropy(&x, &target, smoothing);
        assert!((truth.loss - loss).abs() <= 1e-9 * loss, "{name}");
        check(&name, [x, target], smoothing as f32, loss, dx);
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn unfit_shapes_and_smoothing_are_refused() {
    let complaint = |smoothing, shapes: [Shape; 2]| {
        let error = ClassEntropy { smoothing }.infer(&shapes).unwrap_err();
        error.to_string()
    };
    let (logits, target) = (Shape::new(2, 5, 1, 1, 1), Shape::new(2, 1, 1, 1, 1));
    assert!(complaint(1.0, [logits, target]).contains("smoothing 1"));
    assert!(complaint(f32::NAN, [logits, target]).contains("smoothing"));
    assert!(complaint(0.0, [logits, logits]).contains("classes"));
    assert!(complaint(0.0, [target, target]).contains("2 and more"));
    let voxels = Shape::new(2, 5, 1, 4, 4);
    assert!(complaint(0.0, [voxels, target]).contains("logits"));
}
