//! Which optimiser, and its nodes in a graph.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, GraphError, Init};
use crate::ops::optim::{
    AdamWUpdate, HYPER_LEN, LossScaling, SgdUpdate, gradient_norm, loss_scale,
};
use crate::ops::{Operator, ValueId};
use crate::style::Fault;
use crate::tensor::Shape;

/// Name of the graph input that holds what changes from step to step.
const HYPER_INPUT: &str = "optimizer.hyper";

/// An optimiser and its settings; the learning rate is a [`super::Schedule`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// torch.optim.SGD.
    Sgd {
        /// Share of the last velocity that is kept.
        #[serde(default = "sgd::momentum")]
        momentum: f32,
        /// Whether the step looks ahead along the momentum.
        #[serde(default = "sgd::nesterov")]
        nesterov: bool,
        /// Added to the gradient times the parameter.
        #[serde(default = "sgd::weight_decay")]
        weight_decay: f32,
        /// Largest norm of all gradients together.
        max_norm: Option<f32>,
    },
    /// torch.optim.AdamW.
    #[serde(rename = "adamw")]
    AdamW {
        /// Decay of the first moment.
        #[serde(default = "adamw::beta1")]
        beta1: f64,
        /// Decay of the second moment.
        #[serde(default = "adamw::beta2")]
        beta2: f64,
        /// Added to the root of the second moment.
        #[serde(default = "adamw::epsilon")]
        epsilon: f32,
        /// Decay of the parameter, times the learning rate.
        #[serde(default = "adamw::weight_decay")]
        weight_decay: f32,
        /// Largest norm of all gradients together.
        max_norm: Option<f32>,
    },
}

/// What a table of this kind takes for keys that it leaves out, but for `max_norm`: without it there is no limit.
mod sgd {
    pub fn momentum() -> f32 {
        0.99
    }

    pub fn nesterov() -> bool {
        true
    }

    pub fn weight_decay() -> f32 {
        3e-5
    }
}

/// As [`sgd`].
mod adamw {
    pub fn beta1() -> f64 {
        0.9
    }

    pub fn beta2() -> f64 {
        0.999
    }

    pub fn epsilon() -> f32 {
        1e-8
    }

    pub fn weight_decay() -> f32 {
        0.01
    }
}

impl Default for OptimizerConfig {
    /// nnU-Net's: SGD, Nesterov momentum 0.99, weight decay 3e-5, gradients cut to norm 12.
    fn default() -> Self {
        Self::Sgd {
            momentum: sgd::momentum(),
            nesterov: sgd::nesterov(),
            weight_decay: sgd::weight_decay(),
            max_norm: Some(12.0),
        }
    }
}

impl OptimizerConfig {
    /// AdamW as Loshchilov and Hutter 2019 and PyTorch have it (decay 0.01), gradients cut to norm 12 as nnU-Net's are.
    pub fn adamw() -> Self {
        Self::AdamW {
            beta1: adamw::beta1(),
            beta2: adamw::beta2(),
            epsilon: adamw::epsilon(),
            weight_decay: adamw::weight_decay(),
            max_norm: Some(12.0),
        }
    }

    /// The first number that makes no sense.
    pub fn fault(&self) -> Option<Fault> {
        const SHARE: &str = "at least 0 and below 1";
        let is_share = |v: f64| (0.0..1.0).contains(&v);
        let is_amount = |v: f32| v.is_finite() && v >= 0.0;
        let check = |is_right, key, expected, v: f64| (is_right, key, expected, v as f32);
        let (own, weight_decay) = match *self {
            Self::Sgd {
                momentum,
                weight_decay,
                ..
            } => {
                let momentum = f64::from(momentum);
                let own = vec![check(is_share(momentum), "momentum", SHARE, momentum)];
                (own, weight_decay)
            }
            Self::AdamW {
                beta1,
                beta2,
                epsilon,
                weight_decay,
                ..
            } => {
                let above = epsilon.is_finite() && epsilon > 0.0;
                let own = vec![
                    check(is_share(beta1), "beta1", SHARE, beta1),
                    check(is_share(beta2), "beta2", SHARE, beta2),
                    (above, "epsilon", "a number above 0", epsilon),
                ];
                (own, weight_decay)
            }
        };
        let limit = self.max_norm().unwrap_or(1.0);
        Fault::first(own.into_iter().chain([
            (
                is_amount(weight_decay),
                "weight_decay",
                "a number from 0 on",
                weight_decay,
            ),
            (
                limit.is_finite() && limit > 0.0,
                "max_norm",
                "a number above 0, or left out for no limit",
                limit,
            ),
        ]))
    }

    /// What [`Optimizer::hyper`] must hold for step `step`, counted from 0, at `learning_rate`.
    pub fn hyper(&self, learning_rate: f64, step: u64) -> [f32; HYPER_LEN] {
        let lr = learning_rate as f32;
        match *self {
            Self::Sgd { .. } => [lr, 1.0, 1.0],
            Self::AdamW { beta1, beta2, .. } => {
                let correction = |beta: f64| (1.0 - beta.powf((step + 1) as f64)) as f32;
                [lr, correction(beta1), correction(beta2)]
            }
        }
    }

    /// Largest norm of all gradients together; no limit where `None`.
    pub fn max_norm(&self) -> Option<f32> {
        match *self {
            Self::Sgd { max_norm, .. } | Self::AdamW { max_norm, .. } => max_norm,
        }
    }

    /// The names of what is kept for `parameter` from step to step, each of the parameter's shape.
    pub fn state_names(&self, parameter: &str) -> impl Iterator<Item = String> {
        let prefixes: &[&str] = match self {
            Self::Sgd { .. } => &["momentum"],
            Self::AdamW { .. } => &["adam.m", "adam.v"],
        };
        prefixes
            .iter()
            .map(move |prefix| format!("{prefix}/{parameter}"))
    }

    fn update(&self) -> Arc<dyn Operator> {
        match *self {
            Self::Sgd {
                momentum,
                nesterov,
                weight_decay,
                ..
            } => Arc::new(SgdUpdate {
                momentum,
                weight_decay,
                nesterov,
            }),
            Self::AdamW {
                beta1,
                beta2,
                epsilon,
                weight_decay,
                ..
            } => Arc::new(AdamWUpdate {
                beta1,
                beta2,
                epsilon,
                weight_decay,
            }),
        }
    }
}

/// The optimiser's values in a graph.
#[derive(Clone, Copy, Debug)]
pub struct Optimizer {
    /// Input, a vector of [`HYPER_LEN`] values: [`OptimizerConfig::hyper`].
    pub hyper: ValueId,
    /// The norm of all gradients before clipping, a scalar; where it is not finite the step left everything untouched.
    pub gradient_norm: ValueId,
    /// The factor that the gradients were multiplied by, a scalar; 0 where the step was left out.
    pub clip_scale: ValueId,
}

/// Appends one step: the norm of all gradients, then an update in place of each parameter.
///
/// `grads` maps parameters to their gradients, as [`crate::graph::differentiate`] gives them; parameters left out stay as
/// they are. The states have the names of [`OptimizerConfig::state_names`] and start at 0. Call it outside of any scope of names.
///
/// # Errors
/// [`GraphError::DuplicateName`] where the graph has an optimiser already; [`GraphError::Node`] where there is no gradient,
/// one has another shape than its parameter, or the limit of the norm is not above 0.
pub fn append_optimizer(
    graph: &mut Graph,
    grads: &BTreeMap<ValueId, ValueId>,
    config: &OptimizerConfig,
) -> Result<Optimizer, GraphError> {
    append_scaled_optimizer(graph, grads, config, None)
}

/// [`append_optimizer`] for gradients of the loss times a scale, which is undone here and adapted for the next step.
///
/// # Errors
/// Those of [`append_optimizer`].
pub fn append_scaled_optimizer(
    graph: &mut Graph,
    grads: &BTreeMap<ValueId, ValueId>,
    config: &OptimizerConfig,
    scaling: Option<LossScaling>,
) -> Result<Optimizer, GraphError> {
    let hyper = graph.input(HYPER_INPUT, Shape::vector(HYPER_LEN))?;
    let list: Vec<ValueId> = grads.values().copied().collect();
    let norm = match scaling {
        None => gradient_norm(graph, &list, config.max_norm()),
        Some(scaling) => gradient_norm(graph, &list, None)
            .and_then(|scaled| loss_scale(graph, scaled.norm, scaling, config.max_norm())),
    };
    let norm = norm.map_err(|e| graph.blame(e))?;
    for (&parameter, &grad) in grads {
        let value = graph.value(parameter);
        let (name, shape) = (value.name.clone(), value.shape);
        let mut inputs = vec![parameter];
        for state in config.state_names(&name) {
            inputs.push(graph.state(&state, shape, Init::Constant(0.0))?);
        }
        inputs.extend([grad, hyper, norm.scale]);
        graph.node(config.update(), &inputs)?;
    }
    Ok(Optimizer {
        hyper,
        gradient_norm: norm.norm,
        clip_scale: norm.scale,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_named() {
        let sgd = "kind = \"sgd\"\nmomentum = 0.9\nnesterov = true\nweight_decay = 0.0\nmax_norm = 12.0\n";
        let adamw =
            "kind = \"adamw\"\nbeta1 = 0.9\nbeta2 = 0.999\nepsilon = 1e-8\nweight_decay = 0.0\n";
        for (text, right, wrong, key) in [
            (sgd, "momentum = 0.9", "momentum = 1.0", "momentum"),
            (sgd, "momentum = 0.9", "momentum = nan", "momentum"),
            (sgd, "decay = 0.0", "decay = -1e-3", "weight_decay"),
            (sgd, "decay = 0.0", "decay = inf", "weight_decay"),
            (sgd, "norm = 12.0", "norm = 0.0", "max_norm"),
            (sgd, "norm = 12.0", "norm = nan", "max_norm"),
            (adamw, "beta1 = 0.9", "beta1 = -0.1", "beta1"),
            (adamw, "beta2 = 0.999", "beta2 = 1.0", "beta2"),
            (adamw, "epsilon = 1e-8", "epsilon = 0.0", "epsilon"),
            (adamw, "decay = 0.0", "decay = nan", "weight_decay"),
        ] {
            let read = |text: &str| toml::from_str::<OptimizerConfig>(text).unwrap();
            assert_eq!(read(text).fault(), None);
            let fault = read(&text.replace(right, wrong)).fault();
            assert_eq!(fault.map(|f| f.key), Some(key), "{wrong}");
        }
    }
}
