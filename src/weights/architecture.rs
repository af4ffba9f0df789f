//! The `architecture` of nnU-Net's plans as our topology.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::WeightsError;
use crate::dataset::Topology;
use crate::style::{LayerStyle, Nonlinearity, Norm};

/// The arguments of a network that are understood; others must be null or false.
const UNDERSTOOD: [&str; 15] = [
    "n_stages",
    "features_per_stage",
    "conv_op",
    "kernel_sizes",
    "strides",
    "n_conv_per_stage",
    "n_blocks_per_stage",
    "n_conv_per_stage_decoder",
    "conv_bias",
    "norm_op",
    "norm_op_kwargs",
    "dropout_op",
    "dropout_op_kwargs",
    "nonlin",
    "nonlin_kwargs",
];

const ARGUMENTS: &str = "architecture.arch_kwargs";

/// PyTorch's default of a norm's `eps`.
const EPS: f64 = 1e-5;

/// The file that keys are from, for messages.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
}

impl Source<'_> {
    /// [`WeightsError::Unsupported`].
    pub(super) fn unsupported<T>(
        &self,
        key: &str,
        found: impl Into<String>,
        known: impl Into<String>,
    ) -> Result<T, WeightsError> {
        Err(WeightsError::Unsupported {
            path: self.path.to_owned(),
            key: key.to_owned(),
            found: found.into(),
            known: known.into(),
        })
    }
}

/// Numbers along D, H, W; those of a plane get `depth` before them.
pub(super) fn axes<T: Copy>(numbers: &[T], planar: bool, depth: T) -> Option<[T; 3]> {
    match (numbers, planar) {
        (&[h, w], true) => Some([depth, h, w]),
        (&[d, h, w], false) => Some([d, h, w]),
        _ => None,
    }
}

/// Stages, layers, and whether the network is 2D.
pub(super) fn network(
    source: &Source<'_>,
    architecture: Option<&Value>,
) -> Result<(Topology, LayerStyle, bool), WeightsError> {
    let Some(architecture) = architecture else {
        return source.unsupported(
            "architecture",
            "missing",
            "the plans of nnU-Net 2.4 and later; let a newer nnU-Net migrate it",
        );
    };
    let class = last(architecture["network_class_name"].as_str());
    let residual = match class {
        "PlainConvUNet" => false,
        "ResidualEncoderUNet" => true,
        other => {
            return source.unsupported(
                "architecture.network_class_name",
                format!("`{other}`"),
                "PlainConvUNet and ResidualEncoderUNet",
            );
        }
    };
    let Value::Object(keys) = &architecture["arch_kwargs"] else {
        return source.unsupported(ARGUMENTS, "no object", "an object of arguments");
    };
    let arguments = Arguments { source, keys };
    arguments.check_keys()?;
    let planar = match last(keys.get("conv_op").and_then(Value::as_str)) {
        "Conv2d" => true,
        "Conv3d" => false,
        other => return arguments.unsupported("conv_op", other, "Conv2d and Conv3d"),
    };
    if keys.get("conv_bias") != Some(&Value::Bool(true)) {
        let found = keys
            .get("conv_bias")
            .map_or("false".into(), Value::to_string);
        return arguments.unsupported("conv_bias", &found, "true");
    }
    let topology = arguments.topology(residual, planar)?;
    Ok((topology, arguments.layers()?, planar))
}

/// The last part of a Python name.
fn last(name: Option<&str>) -> &str {
    name.and_then(|name| name.rsplit('.').next())
        .unwrap_or_default()
}

struct Arguments<'a> {
    source: &'a Source<'a>,
    keys: &'a Map<String, Value>,
}

impl Arguments<'_> {
    fn unsupported<T>(&self, key: &str, found: &str, known: &str) -> Result<T, WeightsError> {
        let found = match found.is_empty() {
            true => "missing".to_owned(),
            false => format!("`{found}`"),
        };
        self.source
            .unsupported(&format!("{ARGUMENTS}.{key}"), found, known)
    }

    fn check_keys(&self) -> Result<(), WeightsError> {
        let is_off = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
        let strange = self
            .keys
            .iter()
            .find(|(key, value)| !UNDERSTOOD.contains(&key.as_str()) && !is_off(value));
        match strange {
            None => Ok(()),
            Some((key, value)) => {
                let known = "networks that are described without it";
                self.unsupported(key, &value.to_string(), known)
            }
        }
    }

    fn topology(&self, residual: bool, planar: bool) -> Result<Topology, WeightsError> {
        let stages = self.number("n_stages").unwrap_or(0);
        let features = self.list("features_per_stage", stages)?;
        let blocks = match residual {
            true => self.list("n_blocks_per_stage", stages)?,
            false => self.list("n_conv_per_stage", stages)?,
        };
        let (blocks, convs) = match residual {
            true => (Some(blocks), None),
            false => (None, Some(blocks)),
        };
        // nnU-Net counts decoder stages from the coarsest, this topology from the finest.
        let mut decoder = self.list("n_conv_per_stage_decoder", stages.saturating_sub(1))?;
        decoder.reverse();
        Ok(Topology {
            features,
            kernels: self.triples("kernel_sizes", stages, planar)?,
            strides: self.triples("strides", stages, planar)?,
            blocks,
            convs,
            decoder_convs: Some(decoder),
            heads: Some((0..stages.saturating_sub(1)).collect()),
        })
    }

    fn number(&self, key: &str) -> Option<usize> {
        let number = self.keys.get(key)?.as_u64()?;
        usize::try_from(number).ok()
    }

    /// A list of `len` numbers, or one number for all.
    fn list(&self, key: &str, len: usize) -> Result<Vec<usize>, WeightsError> {
        if let Some(number) = self.number(key) {
            return Ok(vec![number; len]);
        }
        let list = self.keys.get(key).and_then(numbers);
        match list.filter(|list| list.len() == len) {
            Some(list) => Ok(list),
            None => self.bad_list(key, &format!("a list of {len} numbers, as n_stages has it")),
        }
    }

    /// A list of `len` extents.
    fn triples(
        &self,
        key: &str,
        len: usize,
        planar: bool,
    ) -> Result<Vec<[usize; 3]>, WeightsError> {
        let list = self.keys.get(key).and_then(Value::as_array);
        let triples: Option<Vec<[usize; 3]>> = list.and_then(|list| {
            let of = |value: &Value| axes(&numbers(value)?, planar, 1);
            list.iter().map(of).collect()
        });
        match triples.filter(|list| list.len() == len) {
            Some(list) => Ok(list),
            None => self.bad_list(
                key,
                &format!("a list of {len} extents, as n_stages and conv_op have it"),
            ),
        }
    }

    fn bad_list<T>(&self, key: &str, known: &str) -> Result<T, WeightsError> {
        let found = self.keys.get(key).map_or(String::new(), Value::to_string);
        self.unsupported(key, &found, known)
    }

    fn layers(&self) -> Result<LayerStyle, WeightsError> {
        let style = LayerStyle {
            dropout: self.dropout()?,
            norm: self.norm()?,
            activation: self.activation()?,
        };
        match style.fault() {
            None => Ok(style),
            Some(fault) => self.unsupported(fault.key, &fault.found, fault.expected),
        }
    }

    /// An entry of `KEY_kwargs`.
    fn option(&self, key: &str, name: &str) -> Option<&Value> {
        self.keys.get(key)?.get(name)
    }

    fn class(&self, key: &str) -> Option<&str> {
        let name = self.keys.get(key)?.as_str();
        name.map(|name| last(Some(name)))
    }

    fn dropout(&self) -> Result<f32, WeightsError> {
        match self.class("dropout_op") {
            None => Ok(0.0),
            Some("Dropout2d" | "Dropout3d") => {
                let p = self.option("dropout_op_kwargs", "p");
                Ok(p.and_then(Value::as_f64).unwrap_or(0.5) as f32)
            }
            Some(other) => self.unsupported("dropout_op", other, "Dropout2d, Dropout3d and null"),
        }
    }

    fn norm(&self) -> Result<Norm, WeightsError> {
        let option = |name| self.option("norm_op_kwargs", name);
        let eps = option("eps").and_then(Value::as_f64).unwrap_or(EPS) as f32;
        let affine = option("affine").and_then(Value::as_bool);
        match (self.class("norm_op"), affine) {
            (None, _) => Ok(Norm::None),
            (Some("InstanceNorm2d" | "InstanceNorm3d"), affine) => {
                let affine = affine.unwrap_or(false);
                Ok(Norm::Instance { eps, affine })
            }
            (Some("BatchNorm2d" | "BatchNorm3d"), None | Some(true)) => {
                let momentum = option("momentum").and_then(Value::as_f64).unwrap_or(0.1) as f32;
                Ok(Norm::Batch { eps, momentum })
            }
            (Some(other), _) => {
                let known = "InstanceNorm, BatchNorm with affine = true, and null";
                self.unsupported("norm_op", other, known)
            }
        }
    }

    fn activation(&self) -> Result<Nonlinearity, WeightsError> {
        let slope = self.option("nonlin_kwargs", "negative_slope");
        let slope = slope.and_then(Value::as_f64).unwrap_or(0.01) as f32;
        let alpha = self.option("nonlin_kwargs", "alpha");
        let alpha = alpha.and_then(Value::as_f64).unwrap_or(1.0);
        match self.class("nonlin").unwrap_or_default() {
            "LeakyReLU" => Ok(Nonlinearity::LeakyRelu { slope }),
            "ReLU" => Ok(Nonlinearity::Relu),
            "ReLU6" => Ok(Nonlinearity::Relu6),
            "Hardswish" => Ok(Nonlinearity::HSwish),
            "ELU" if alpha == 1.0 => Ok(Nonlinearity::Elu),
            other => {
                let known = "LeakyReLU, ReLU, ReLU6, Hardswish, and ELU of alpha 1";
                self.unsupported("nonlin", other, known)
            }
        }
    }
}

fn numbers(value: &Value) -> Option<Vec<usize>> {
    let number = |n: &Value| n.as_u64().and_then(|n| usize::try_from(n).ok());
    value.as_array()?.iter().map(number).collect()
}
