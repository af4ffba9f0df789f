//! Segmentation losses against the f64 reference, central differences and PyTorch.

use voxseg::ops::loss::{
    Activation, HardDiceCounts, LossAttributes, Normalise, PixelLoss, RegionLoss, SegmentationLoss,
    WeightedSum,
};
use voxseg::reference::Tolerance;
use voxseg::reference::loss::{self as reference, Graded, Overlap, Score};
use voxseg::tensor::{HostTensor, Shape};

use crate::fixtures::{self, Fixture};
use crate::harness::{Case, check_reference_gradient, random, random_in};

type Tensor = HostTensor<f64>;

/// A loss with its inputs.
struct Problem {
    name: String,
    attributes: LossAttributes,
    logits: Tensor,
    target: Tensor,
    class_weight: Option<Tensor>,
    voxel_weight: Option<Tensor>,
}

fn scalar(value: f64) -> Tensor {
    HostTensor {
        shape: Shape::scalar(),
        data: vec![value],
    }
}

/// Whole numbers 0..=highest.
fn labels(shape: Shape, seed: u64, highest: u32) -> Tensor {
    let mut t = random_in(shape.with_c(1), seed, 0.0, highest as f32 + 0.999);
    t.data.iter_mut().for_each(|v| *v = v.floor());
    t
}

fn zero_one(shape: Shape, seed: u64) -> Tensor {
    let mut t = random(shape, seed);
    t.data.iter_mut().for_each(|v| *v = f64::from(*v > 0.3));
    t
}

impl Problem {
    fn new(name: &str, attributes: LossAttributes, shape: Shape) -> Self {
        let mut target = match attributes.activation {
            Activation::Softmax => labels(shape, 2, shape.c() as u32 - 1),
            Activation::Sigmoid => zero_one(shape, 2),
        };
        if attributes.ignore_label == Some(255) {
            for (i, v) in target.data.iter_mut().enumerate() {
                *v = if i % 3 == 0 { 255.0 } else { *v };
            }
        }
        let mut voxel_weight = random_in(shape.with_c(1), 4, 0.0, 3.0);
        for v in voxel_weight.data.iter_mut().step_by(4) {
            *v = 0.0;
        }
        Self {
            name: name.to_owned(),
            attributes,
            logits: random_in(shape, 1, -4.0, 4.0),
            target,
            class_weight: attributes
                .class_weighted
                .then(|| random_in(Shape::vector(shape.c()), 3, 0.2, 2.0)),
            voxel_weight: attributes.voxel_weighted.then_some(voxel_weight),
        }
    }

    fn case(&self) -> Case {
        let mut inputs = vec![(self.logits.clone(), true), (self.target.clone(), true)];
        let optional = [&self.class_weight, &self.voxel_weight];
        inputs.extend(optional.into_iter().flatten().map(|t| (t.clone(), true)));
        let op = SegmentationLoss {
            attributes: self.attributes,
        };
        Case::new(self.name.clone(), op, inputs)
    }

    /// The truth g (N, C, D, H, W) and the voxels that count (N, 1, D, H, W).
    fn truth(&self) -> (Tensor, Tensor) {
        let shape = self.logits.shape;
        match self.attributes.activation {
            Activation::Softmax => {
                reference::one_hot(&self.target, shape.c(), self.attributes.ignore_label)
            }
            Activation::Sigmoid => (
                self.target.clone(),
                HostTensor {
                    shape: shape.with_c(1),
                    data: vec![1.0; shape.n() * shape.voxels()],
                },
            ),
        }
    }

    fn probabilities(&self, x: &Tensor) -> Tensor {
        match self.attributes.activation {
            Activation::Softmax => reference::softmax(x),
            Activation::Sigmoid => reference::sigmoid(x),
        }
    }

    /// The voxels that count in the region loss.
    fn region_mask(&self) -> Tensor {
        let (_, mut mask) = self.truth();
        if let Some(weight) = &self.voxel_weight {
            for (m, w) in mask.data.iter_mut().zip(&weight.data) {
                *m = if *w == 0.0 { 0.0 } else { *m };
            }
        }
        mask
    }

    fn pixel(&self, x: &Tensor) -> Option<Graded> {
        let gamma = match self.attributes.pixel? {
            PixelLoss::CrossEntropy => 0.0,
            PixelLoss::Focal { gamma } => f64::from(gamma),
        };
        let (g, mask) = self.truth();
        let mut v = mask.clone();
        for (at, value) in v.data.iter_mut().enumerate() {
            let label = self.target.data[at.min(self.target.data.len() - 1)];
            if let Some(weight) = self.class_weight.as_ref().filter(|_| *value > 0.0) {
                *value *= weight.data[label as usize];
            }
            *value *= self.voxel_weight.as_ref().map_or(1.0, |w| w.data[at]);
        }
        let channels = match self.attributes.activation {
            Activation::Softmax => 1.0,
            Activation::Sigmoid => x.shape.c() as f64,
        };
        let has_weights = self.class_weight.is_some() || self.voxel_weight.is_some();
        let divisor: f64 = if has_weights && self.attributes.normalise == Normalise::Weights {
            v.data.iter().sum()
        } else {
            mask.data.iter().sum::<f64>() * channels
        };
        Some(match self.attributes.activation {
            Activation::Softmax => reference::softmax_pixel_loss(x, &g, &v, gamma, divisor),
            Activation::Sigmoid => reference::sigmoid_pixel_loss(x, &g, &v, gamma, divisor),
        })
    }

    fn region(&self, x: &Tensor) -> Option<Graded> {
        let kind = self.attributes.region?;
        let scoring = |sums: &[[f64; 3]]| -> Vec<Score> {
            match kind {
                RegionLoss::SoftDice { smooth } => reference::dice_scores(sums, f64::from(smooth)),
                RegionLoss::SquaredDice => reference::dice_scores(sums, 0.0),
                RegionLoss::Tversky {
                    alpha,
                    beta,
                    smooth,
                } => {
                    let [alpha, beta, smooth] = [alpha, beta, smooth].map(f64::from);
                    reference::tversky_scores(sums, alpha, beta, smooth)
                }
                RegionLoss::GeneralisedDice => reference::generalised_scores(sums),
            }
        };
        let overlap = Overlap {
            scoring: &scoring,
            power: 1 + i32::from(kind == RegionLoss::SquaredDice),
            offset: f64::from(!matches!(kind, RegionLoss::SoftDice { .. })),
            joint: kind == RegionLoss::GeneralisedDice,
            batch: self.attributes.batch_dice,
            first_class: usize::from(!self.attributes.background),
        };
        let p = self.probabilities(x);
        let (g, _) = self.truth();
        let by_p = overlap.loss(&p, &g, &self.region_mask());
        let gradient = match self.attributes.activation {
            Activation::Softmax => reference::through_softmax(&p, &by_p.gradient),
            Activation::Sigmoid => reference::through_sigmoid(&p, &by_p.gradient),
        };
        Some(Graded {
            loss: by_p.loss,
            gradient,
        })
    }

    fn reference(&self, x: &Tensor) -> Graded {
        let mut total = Graded {
            loss: 0.0,
            gradient: HostTensor::zeros(x.shape),
        };
        let parts = [
            (self.attributes.pixel_weight, self.pixel(x)),
            (self.attributes.region_weight, self.region(x)),
        ];
        for (weight, part) in parts {
            let Some(part) = part else { continue };
            total.loss += f64::from(weight) * part.loss;
            for (t, d) in total.gradient.data.iter_mut().zip(&part.gradient.data) {
                *t += f64::from(weight) * d;
            }
        }
        total
    }

    fn stats(&self) -> Tensor {
        let power = 1 + i32::from(self.attributes.region == Some(RegionLoss::SquaredDice));
        let p = self.probabilities(&self.logits);
        let (g, _) = self.truth();
        let sums = reference::overlap_sums(&p, &g, &self.region_mask(), power);
        HostTensor {
            shape: Shape::new(p.shape.n(), p.shape.c(), 1, 1, 3),
            data: sums.into_iter().flatten().flatten().collect(),
        }
    }

    /// Loss, stats and gradient on the device, plain and embedded.
    fn check(&self) {
        let truth = self.reference(&self.logits);
        self.check_values(truth.loss, &truth.gradient);
        for embed in [false, true] {
            let found = self.case().run(embed, None);
            let name = format!("{} stats", self.name);
            tolerance()
                .compare(&name, &found[1], &self.stats())
                .unwrap();
        }
    }

    fn check_values(&self, loss: f64, gradient: &Tensor) {
        let dloss = -1.75;
        let mut expected = gradient.clone();
        expected.data.iter_mut().for_each(|d| *d *= dloss);
        let mut wanted = vec![Some(expected)];
        wanted.resize(self.case().inputs.len(), None);
        for embed in [false, true] {
            let found = self.case().run(embed, None);
            let value = tolerance().compare(&self.name, &found[0], &scalar(loss));
            println!("{}: {value:?}", self.name);
            value.unwrap();
        }
        self.case()
            .check_backward(&[Some(scalar(dloss)), None, None], &wanted, tolerance());
    }
}

/// WGSL allows exp an error of 3 + 2 |x| units in the last place, 19 for the differences of logits here, and a division
/// 2.5; with the products and sums that follow that is below three times the 12 units of a single term.
fn tolerance() -> Tolerance {
    Tolerance::for_terms(1).amplified(3.0)
}

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

#[test]
fn hard_counts_match_the_reference() {
    for (activation, shape) in [
        (Activation::Softmax, Shape::new(2, 4, 3, 5, 7)),
        (Activation::Softmax, Shape::new(1, 3, 17, 33, 31)),
        (Activation::Sigmoid, Shape::new(2, 3, 5, 6, 7)),
    ] {
        for voxel_weighted in [false, true] {
            let ignore_label = (activation == Activation::Softmax).then_some(1);
            let attributes = LossAttributes {
                activation,
                ignore_label,
                voxel_weighted,
                ..LossAttributes::dice_ce()
            };
            let problem = Problem::new("hard counts", attributes, shape);
            let hard = match activation {
                Activation::Softmax => reference::largest(&problem.logits),
                Activation::Sigmoid => reference::above_zero(&problem.logits),
            };
            let (g, _) = problem.truth();
            let sums = reference::overlap_sums(&hard, &g, &problem.region_mask(), 1);
            let counts = sums.into_iter().flatten();
            let expected = HostTensor {
                shape: Shape::new(shape.n(), shape.c(), 1, 1, 3),
                data: counts.flat_map(|[i, p, g]| [i, p - i, g - i]).collect(),
            };
            let op = HardDiceCounts {
                activation,
                ignore_label,
                voxel_weighted,
            };
            let inputs = problem.case().inputs;
            Case::new("hard counts", op, inputs)
                .check_forward(&[expected], Tolerance { rtol: 0.0 });
        }
    }
}
