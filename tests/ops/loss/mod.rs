//! Losses against the f64 reference, central differences and PyTorch.

mod class_entropy;
mod problem;
mod supervised;

use problem::{Problem, Tensor, scalar};
use voxseg::ops::loss::{
    Activation, LossAttributes, Normalise, PixelLoss, RegionLoss, SegmentationLoss, WeightedSum,
};
use voxseg::reference::Tolerance;
use voxseg::tensor::{HostTensor, Shape};

use crate::fixtures::{self, Fixture};
use crate::harness::{Case, check_reference_gradient, random};

/// Every choice at least once, by name.
fn variants() -> Vec<(&'static str, LossAttributes)> {
    let labels = LossAttributes::dice_ce();
    let regions = LossAttributes {
        activation: Activation::Sigmoid,
        background: true,
        ..labels
    };
    let only = |pixel, region| LossAttributes {
        pixel,
        region,
        ..labels
    };
    let ce = Some(PixelLoss::CrossEntropy);
    let focal = Some(PixelLoss::Focal { gamma: 2.0 });
    let tversky = Some(RegionLoss::Tversky {
        alpha: 0.3,
        beta: 0.7,
        smooth: 1.0,
    });
    let weighted = LossAttributes {
        class_weighted: true,
        voxel_weighted: true,
        ..labels
    };
    vec![
        ("dice ce", labels),
        (
            "dice ce, batch, background",
            LossAttributes {
                batch_dice: true,
                background: true,
                ..labels
            },
        ),
        (
            "dice ce, ignored label",
            LossAttributes {
                ignore_label: Some(255),
                ..labels
            },
        ),
        (
            "dice ce, ignored class",
            LossAttributes {
                ignore_label: Some(1),
                background: true,
                ..labels
            },
        ),
        ("dice ce, weights", weighted),
        (
            "dice ce, weights, by voxels",
            LossAttributes {
                normalise: Normalise::Voxels,
                pixel_weight: 0.7,
                region_weight: 1.3,
                ..weighted
            },
        ),
        ("ce", only(ce, None)),
        ("focal", only(focal, None)),
        (
            "focal, gamma 1",
            only(Some(PixelLoss::Focal { gamma: 1.0 }), None),
        ),
        ("dice focal", only(focal, labels.region)),
        ("dice", only(None, labels.region)),
        ("squared dice", only(None, Some(RegionLoss::SquaredDice))),
        (
            "squared dice, batch",
            LossAttributes {
                batch_dice: true,
                ..only(ce, Some(RegionLoss::SquaredDice))
            },
        ),
        ("tversky", only(None, tversky)),
        (
            "generalised dice",
            LossAttributes {
                background: true,
                ..only(None, Some(RegionLoss::GeneralisedDice))
            },
        ),
        (
            "generalised dice, batch",
            LossAttributes {
                batch_dice: true,
                ..only(None, Some(RegionLoss::GeneralisedDice))
            },
        ),
        ("regions", regions),
        (
            "regions, weights, focal, batch",
            LossAttributes {
                voxel_weighted: true,
                batch_dice: true,
                pixel: focal,
                ..regions
            },
        ),
        (
            "regions, weights, squared",
            LossAttributes {
                voxel_weighted: true,
                region: Some(RegionLoss::SquaredDice),
                normalise: Normalise::Voxels,
                ..regions
            },
        ),
    ]
}

#[test]
fn losses_match_the_reference_at_odd_sizes() {
    for (name, attributes) in variants() {
        Problem::new(name, attributes, Shape::new(2, 3, 3, 5, 7)).check();
    }
}

/// Voxels in words of eight, which CPU adapters take together where labels have no weights, and by the other kernels.
#[test]
fn losses_match_the_reference_in_words() {
    let whole = Shape::new(2, 3, 3, 4, 6);
    for (name, attributes) in variants() {
        let mut problem = Problem::new(name, attributes, whole);
        problem.check();
        problem.variant = Some("voxels");
        problem.check();
    }
    let focal = |gamma| LossAttributes {
        pixel: Some(PixelLoss::Focal { gamma }),
        ..LossAttributes::dice_ce()
    };
    for (classes, gamma) in [(2, 2.0), (5, 1.5), (8, 2.0), (9, 2.0)] {
        let shape = Shape::new(2, classes, 8, 33, 37);
        Problem::new(&format!("{classes} classes"), focal(gamma), shape).check();
    }
}

#[test]
fn losses_match_the_reference_over_many_chunks_and_class_counts() {
    let labels = LossAttributes::dice_ce();
    for (classes, size) in [
        (2, [19, 31, 33]),
        (4, [1, 129, 131]),
        (64, [2, 3, 5]),
        (19, [3, 4, 5]),
    ] {
        let shape = Shape::new(2, classes, 1, 1, 1).with_spatial(size);
        Problem::new(&format!("{classes} classes"), labels, shape).check();
    }
}

#[test]
fn the_reference_matches_central_differences() {
    for (name, attributes) in variants() {
        let problem = Problem::new(name, attributes, Shape::new(2, 3, 1, 3, 4));
        check_reference_gradient(
            name,
            &problem.logits,
            &problem.reference(&problem.logits).gradient,
            &scalar(1.0),
            |x| scalar(problem.reference(x).loss),
        );
    }
}

fn stored(case: &fixtures::Case<'_>, key: &str, channels: usize) -> Option<Tensor> {
    let found = case.optional(key)?;
    let shape = match *found.shape {
        [n, d, h, w] => Shape::new(n, channels, d, h, w),
        [n, c, d, h, w] => Shape::new(n, c, d, h, w),
        _ => Shape::vector(found.data.len()),
    };
    Some(
        HostTensor::from_vec(shape, found.data.clone())
            .unwrap()
            .to_f64(),
    )
}

/// The attributes of a stored case; `None` for another operator's.
fn attributes_of(case: &fixtures::Case<'_>) -> Option<LossAttributes> {
    let gamma = || PixelLoss::Focal {
        gamma: case.number("gamma") as f32,
    };
    let dice = Some(RegionLoss::SoftDice { smooth: 1e-5 });
    let ce = Some(PixelLoss::CrossEntropy);
    let (pixel, region) = match case.op() {
        "cross_entropy" | "bce" => (ce, None),
        "focal" => (Some(gamma()), None),
        "soft_dice" => (None, dice),
        "vnet_dice" => (None, Some(RegionLoss::SquaredDice)),
        "dice_ce" | "dice_bce" => (ce, dice),
        "dice_focal" => (Some(gamma()), dice),
        "tversky" => {
            let [alpha, beta] = ["alpha", "beta"].map(|key| case.number(key) as f32);
            let smooth = 1e-5;
            let tversky = RegionLoss::Tversky {
                alpha,
                beta,
                smooth,
            };
            (None, Some(tversky))
        }
        "generalised_dice" => (None, Some(RegionLoss::GeneralisedDice)),
        _ => return None,
    };
    let by_voxels = case.attribute("normalise_by") == "voxels" || case.op() == "focal";
    Some(LossAttributes {
        activation: match case.optional("regions") {
            Some(_) => Activation::Sigmoid,
            None => Activation::Softmax,
        },
        pixel,
        region,
        batch_dice: case.flag("batch_dice"),
        background: case.flag("background") || case.op() == "generalised_dice",
        ignore_label: case.attribute("ignore_label").as_u64().map(|l| l as u32),
        class_weighted: ["class_weight", "alpha"]
            .iter()
            .any(|k| case.optional(k).is_some()),
        voxel_weighted: ["voxel_weight", "mask"]
            .iter()
            .any(|k| case.optional(k).is_some()),
        normalise: if by_voxels {
            Normalise::Voxels
        } else {
            Normalise::Weights
        },
        ..LossAttributes::dice_ce()
    })
}

#[test]
fn losses_match_pytorch() {
    let fixture = Fixture::load("losses");
    let mut found = 0;
    for case in fixture.cases() {
        let Some(attributes) = attributes_of(&case) else {
            continue;
        };
        found += 1;
        let first = |keys: [&str; 2]| keys.iter().find_map(|key| stored(&case, key, 1));
        let problem = Problem {
            variant: None,
            name: format!("PyTorch {}", case.name()),
            attributes,
            logits: stored(&case, "x", 1).unwrap(),
            target: first(["regions", "target"]).unwrap(),
            class_weight: first(["class_weight", "alpha"]),
            voxel_weight: first(["voxel_weight", "mask"]),
        };
        problem.check_values(case.number("loss"), &stored(&case, "dx", 1).unwrap());
    }
    assert!(found > 35, "only {found} cases");
}

#[test]
fn unfit_choices_are_refused_with_the_reason() {
    use voxseg::ops::Operator;
    let labels = LossAttributes::dice_ce();
    let shape = Shape::new(1, 3, 2, 2, 2);
    let complaint = |attributes, inputs: &[Shape]| {
        let op = SegmentationLoss { attributes };
        op.infer(inputs).unwrap_err().to_string()
    };
    let target = shape.with_c(1);
    let nothing = LossAttributes {
        pixel: None,
        region: None,
        ..labels
    };
    assert!(complaint(nothing, &[shape, target]).contains("neither"));
    let one_class = shape.with_c(1);
    assert!(complaint(labels, &[one_class, target]).contains("2 to 64"));
    assert!(complaint(labels, &[shape, shape]).contains("target"));
    let ignored_regions = LossAttributes {
        activation: Activation::Sigmoid,
        ignore_label: Some(2),
        ..labels
    };
    assert!(complaint(ignored_regions, &[shape, shape]).contains("voxel weights"));
    let half = LossAttributes {
        pixel: Some(PixelLoss::Focal { gamma: 0.5 }),
        ..labels
    };
    assert!(complaint(half, &[shape, target]).contains("gamma"));
}

#[test]
fn weighted_sum_adds_values_and_its_gradient_is_the_weights() {
    let shape = Shape::vector(5);
    let (a, w) = (random(shape, 1), random(shape, 2));
    let sum = a.data.iter().zip(&w.data).map(|(a, w)| a * w).sum();
    let case = Case::new(
        "weighted sum",
        WeightedSum,
        vec![(a.clone(), true), (w.clone(), true)],
    );
    case.check_forward(&[scalar(sum)], Tolerance::for_terms(5));
    let mut da = w;
    da.data.iter_mut().for_each(|v| *v *= 0.5);
    let wanted = [Some(da), None];
    case.check_backward(&[Some(scalar(0.5))], &wanted, Tolerance::for_terms(1));
}
