//! A loss with its inputs and what the f64 reference says of it.

use voxseg::ops::loss::{
    Activation, LossAttributes, Normalise, PixelLoss, RegionLoss, SegmentationLoss,
};
use voxseg::reference::Tolerance;
use voxseg::reference::loss::{self as reference, Graded, Overlap, Score};
use voxseg::tensor::{HostTensor, Shape};

use crate::harness::{Case, random, random_in};

pub type Tensor = HostTensor<f64>;

/// A loss with its inputs.
pub struct Problem {
    pub name: String,
    pub attributes: LossAttributes,
    pub logits: Tensor,
    pub target: Tensor,
    pub class_weight: Option<Tensor>,
    pub voxel_weight: Option<Tensor>,
    /// The kernels to force.
    pub variant: Option<&'static str>,
}

pub fn scalar(value: f64) -> Tensor {
    HostTensor {
        shape: Shape::scalar(),
        data: vec![value],
    }
}

/// Whole numbers 0..=highest.
pub fn labels(shape: Shape, seed: u64, highest: u32) -> Tensor {
    let mut t = random_in(shape.with_c(1), seed, 0.0, highest as f32 + 0.999);
    t.data.iter_mut().for_each(|v| *v = v.floor());
    t
}

pub fn zero_one(shape: Shape, seed: u64) -> Tensor {
    let mut t = random(shape, seed);
    t.data.iter_mut().for_each(|v| *v = f64::from(*v > 0.3));
    t
}

impl Problem {
    pub fn new(name: &str, attributes: LossAttributes, shape: Shape) -> Self {
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
            variant: None,
            logits: random_in(shape, 1, -4.0, 4.0),
            target,
            class_weight: attributes
                .class_weighted
                .then(|| random_in(Shape::vector(shape.c()), 3, 0.2, 2.0)),
            voxel_weight: attributes.voxel_weighted.then_some(voxel_weight),
        }
    }

    pub fn case(&self) -> Case {
        let mut inputs = vec![(self.logits.clone(), true), (self.target.clone(), true)];
        let optional = [&self.class_weight, &self.voxel_weight];
        inputs.extend(optional.into_iter().flatten().map(|t| (t.clone(), true)));
        let op = SegmentationLoss {
            attributes: self.attributes,
        };
        let case = Case::new(self.name.clone(), op, inputs);
        match self.variant {
            Some(variant) => case.with_variant("loss", variant),
            None => case,
        }
    }

    /// The truth g (N, C, D, H, W) and the voxels that count (N, 1, D, H, W).
    pub fn truth(&self) -> (Tensor, Tensor) {
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
    pub fn region_mask(&self) -> Tensor {
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

    pub fn reference(&self, x: &Tensor) -> Graded {
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
    pub fn check(&self) {
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

    pub fn check_values(&self, loss: f64, gradient: &Tensor) {
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
        // A gradient below all that f16 can say: there the scale of the loss would have to grow first.
        let largest = gradient.data.iter().fold(0.0, |m: f64, d| m.max(d.abs()));
        let case = match largest < SMALLEST_HALF {
            true => self.case().in_f32(),
            false => self.case(),
        };
        case.check_backward(&[Some(scalar(dloss)), None, None], &wanted, tolerance());
    }
}

/// The smallest normal number of f16.
const SMALLEST_HALF: f64 = 1.0 / 16384.0;

/// WGSL allows exp an error of 3 + 2 |x| units in the last place, 19 for the differences of logits here, and a division
/// 2.5; with the products and sums that follow that is below three times the 12 units of a single term.
pub fn tolerance() -> Tolerance {
    Tolerance::for_terms(1).amplified(3.0)
}
