//! LR-ASPP on MobileNetV3-Large (Howard et al. 2019, section 6.4), with torchvision's definition and names
//! (`lraspp_mobilenet_v3_large`): 3,221,538 parameters for 21 classes.

use std::sync::Arc;

use super::mobilenet::scaled;
use super::mobilenet_v3::{Halvings, V3Features};
use super::{Architecture, Blueprint, Form, Heads, Key, Model, ModelError, Task, checks};
use crate::graph::{Graph, GraphError};
use crate::nn::{ConvNorm, Mode, Nonlinearity, Norm, Padding, conv_layer, one_voxel_conv_layer};
use crate::ops::ValueId;
use crate::ops::activation::{Activation, activate};
use crate::ops::elementwise::{add, scale_channels};
use crate::ops::pool::global_avg_pool;
use crate::ops::resample::{Mode as Interpolation, resample};
use crate::tensor::Shape;

/// Features of the first stage of nnU-Net's plans.
const USUAL_FEATURES: f64 = 32.0;

/// A segmentation network with two paths: the last features, weighted by what their means say, and finer ones.
#[derive(Clone, Debug, PartialEq)]
pub struct LrAspp {
    /// The encoder, of which the last resolution is that before by dilation.
    pub features: V3Features,
    /// Which of the outputs of the encoder, counted from 0, is the finer one.
    pub low: usize,
    /// Channels of the coarse path.
    pub inter: usize,
    /// Channels of the logits.
    pub classes: usize,
}

impl LrAspp {
    /// The published network; for volumes where the form's extent is more than 1 along D.
    pub fn published(form: Form) -> Self {
        Self::with(form, &Halvings::of_form(form), 1.0)
    }

    /// The network that loses resolution where the stages of `plan` do. Its channels are to the published ones as the
    /// features of the plan's first stage are to nnU-Net's 32, and its running statistics follow with the momentum 0.1:
    /// with the published 0.01 they are far behind after the first hundreds of steps, and inference with them.
    pub fn of_blueprint(plan: &Blueprint) -> Self {
        let width = plan
            .features
            .first()
            .map_or(1.0, |&f| f as f64 / USUAL_FEATURES);
        let mut network = Self::with(plan.form, &Halvings::of_blueprint(plan), width);
        network.features.norm = Norm::Batch {
            eps: 0.001,
            momentum: 0.1,
        };
        network
    }

    fn with(form: Form, halvings: &Halvings, width: f64) -> Self {
        Self {
            features: V3Features::dilated_large(form.channels, halvings, width),
            low: 4,
            inter: scaled(128, width),
            classes: form.classes,
        }
    }

    /// The paths' sum, at the resolution of the finer one.
    fn build_head(
        &self,
        graph: &mut Graph,
        [low, high]: [ValueId; 2],
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let reduce = ConvNorm::pointwise(Norm::BATCH, Some(Nonlinearity::Relu));
        let x = reduce.build(graph, high, self.inter, ["cbr.0", "cbr.1"], mode)?;
        let means = global_avg_pool(graph, high).map_err(|e| graph.blame(e))?;
        let factors = graph.scope("scale.1", |g| {
            let y = one_voxel_conv_layer(g, means, self.inter, false)?;
            activate(g, y, Activation::Sigmoid).map_err(|e| g.blame(e))
        })?;
        let x = scale_channels(graph, x, factors).map_err(|e| graph.blame(e))?;
        let x = enlarge(graph, x, graph.value(low).shape)?;
        let classify =
            |g: &mut Graph, x| conv_layer(g, x, self.classes, [1; 3], [1; 3], Padding::Same, true);
        let fine = graph.scope("low_classifier", |g| classify(g, low))?;
        let coarse = graph.scope("high_classifier", |g| classify(g, x))?;
        add(graph, fine, coarse).map_err(|e| graph.blame(e))
    }
}

/// x with the extents of `like`, linearly.
fn enlarge(graph: &mut Graph, x: ValueId, like: Shape) -> Result<ValueId, GraphError> {
    let linear = Interpolation::Linear {
        align_corners: false,
    };
    resample(graph, x, like.spatial(), linear).map_err(|e| graph.blame(e))
}

impl Architecture for LrAspp {
    fn in_channels(&self) -> usize {
        self.features.in_channels
    }

    fn out_channels(&self) -> usize {
        self.classes
    }

    fn steps(&self) -> Option<[usize; 3]> {
        Some([1; 3])
    }

    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        self.features.validate()?;
        checks::above_zero("`inter` and `classes`", [&self.inter, &self.classes])?;
        let made = graph.scope("backbone", |g| self.features.build(g, image, mode))?;
        let (Some(&low), Some(&high)) = (made.get(self.low), made.last()) else {
            return Err(ModelError::Config(format!(
                "`low` must be below {}, the outputs of the encoder, found {}",
                made.len(),
                self.low
            )));
        };
        let logits = graph.scope("classifier", |g| self.build_head(g, [low, high], mode))?;
        let whole = graph.value(image).shape;
        let logits = graph.scope("classifier", |g| enlarge(g, logits, whole))?;
        Ok(Heads {
            logits: vec![logits],
            dropout_seed: None,
        })
    }
}

pub(super) static MODEL: Model = Model {
    name: "lraspp",
    title: "LR-ASPP on MobileNetV3-Large",
    source: "Howard et al. 2019",
    task: Task::Segmentation,
    published: Form {
        channels: 3,
        classes: 21,
        extent: [1, 520, 520],
    },
    of_form: |form| Ok(Arc::new(LrAspp::published(form))),
    of_blueprint: Some(|plan| plan.network(LrAspp::of_blueprint)),
    follows: &[&[
        Key::BaseFeatures,
        Key::MaxStages,
        Key::Kernels,
        Key::Strides,
    ]],
};
