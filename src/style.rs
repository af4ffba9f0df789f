//! What the layers of a network are, as plain data: configurations and plans hold it, `nn/` builds it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A normalisation layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Norm {
    /// None.
    None,
    /// Per sample and channel (Ulyanov 2016).
    Instance {
        /// Added to the variance.
        #[serde(default = "usual_eps")]
        eps: f32,
        /// Whether each channel has a trained scale and shift.
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        affine: bool,
    },
    /// Per sample and group of neighbouring channels (Wu and He 2018); one group is layer normalisation of a whole sample
    /// (Ba 2016), as many groups as channels are instance normalisation.
    Group {
        /// Number of groups; divides the channels of every layer.
        #[serde(default = "usual_groups")]
        groups: usize,
        /// Added to the variance.
        #[serde(default = "usual_eps")]
        eps: f32,
    },
    /// Per channel over the batch, with running statistics for inference (Ioffe and Szegedy 2015).
    Batch {
        /// Added to the variance.
        #[serde(default = "usual_eps")]
        eps: f32,
        /// Share of the batch in the running statistics.
        #[serde(default = "usual_momentum")]
        momentum: f32,
    },
}

impl Norm {
    /// PyTorch's instance norm: no scale and shift.
    pub const BARE_INSTANCE: Self = Self::Instance {
        eps: usual_eps(),
        affine: false,
    };

    /// PyTorch's batch norm.
    pub const BATCH: Self = Self::Batch {
        eps: usual_eps(),
        momentum: usual_momentum(),
    };
}

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Nonlinearity {
    /// max(x, 0)
    Relu,
    /// x for x > 0, else slope * x.
    LeakyRelu {
        /// The negative slope.
        #[serde(default = "usual_slope")]
        slope: f32,
    },
    /// Leaky ReLU with a trained slope for each channel, first 0.25 (He 2015).
    Prelu,
    /// Leaky ReLU with one trained slope for all channels, first 0.25: PyTorch's where nothing is said.
    SharedPrelu,
    /// min(max(x, 0), 6)
    Relu6,
    /// x * ReLU6(x + 3) / 6 (Howard 2019)
    HSwish,
    /// x * Phi(x), Phi the distribution of the normal numbers (Hendrycks and Gimpel 2016)
    Gelu,
    /// x for x > 0, else exp(x) - 1 (Clevert 2016)
    Elu,
}

const fn yes() -> bool {
    true
}

/// What stands in files since before there was a choice is not written.
fn is_yes(affine: &bool) -> bool {
    *affine
}

/// PyTorch's and nnU-Net's.
const fn usual_eps() -> f32 {
    1e-5
}

/// Those of Myronenko 2018 for volumes, where layers have too few channels for the 32 of the paper.
fn usual_groups() -> usize {
    8
}

/// PyTorch's.
const fn usual_momentum() -> f32 {
    0.1
}

/// nnU-Net's.
fn usual_slope() -> f32 {
    0.01
}

impl Default for Norm {
    /// nnU-Net's: instance norm.
    fn default() -> Self {
        Self::Instance {
            eps: usual_eps(),
            affine: true,
        }
    }
}

impl Default for Nonlinearity {
    /// nnU-Net's: leaky ReLU.
    fn default() -> Self {
        Self::LeakyRelu {
            slope: usual_slope(),
        }
    }
}

/// What follows each convolution of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayerStyle {
    /// Share of the channels that are dropped in training (Tompson et al. 2015), before the normalisation; 0 for none.
    pub dropout: f32,
    /// Normalisation.
    #[serde(deserialize_with = "name_or_table")]
    pub norm: Norm,
    /// Activation.
    #[serde(deserialize_with = "name_or_table")]
    pub activation: Nonlinearity,
}

/// How the heads of a U-Net's decoder stages make its output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadStyle {
    /// Each is an output with a loss of its own (Lee 2014, "Deeply-Supervised Nets"; nnU-Net); the finest is the network's.
    #[default]
    Separate,
    /// One output: from the coarsest on, logits are resampled trilinearly (align_corners = false) to the next finer
    /// head and added to its own (Kayalibay 2017, "CNN-based Segmentation of Medical Imaging Data").
    Summed,
}

/// What a U-Net's decoder does with skips and heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecoderStyle {
    /// What becomes of several heads.
    pub head_style: HeadStyle,
    /// Whether an attention gate weighs the voxels of each skip (Oktay 2018).
    pub attention_gates: bool,
}

impl DecoderStyle {
    /// Whether it is the usual one: separate heads, no gates.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// The transformer of a network on tokens, as far as the user decides it; what is `None` follows from the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenStyle {
    /// Blocks of the transformer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<usize>,
    /// Heads of each attention; a divisor of the features of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_heads: Option<usize>,
    /// Features between the two layers of each perceptron.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
}

impl TokenStyle {
    /// Whether the user decides nothing.
    pub fn is_planned(&self) -> bool {
        *self == Self::default()
    }

    /// The first number that makes no sense.
    pub fn fault(&self) -> Option<Fault> {
        let checks = [
            ("tokens.blocks", "from 1 to 64", 64, self.blocks),
            (
                "tokens.attention_heads",
                "from 1 to 1024",
                1024,
                self.attention_heads,
            ),
            ("tokens.hidden", "from 1 to 65536", 1 << 16, self.hidden),
        ];
        Fault::first(checks.map(|(key, expected, most, given)| {
            let given = given.unwrap_or(1);
            ((1..=most).contains(&given), key, expected, given)
        }))
    }
}

/// A number of a configuration that makes no sense.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Its key.
    pub key: &'static str,
    /// What it must be.
    pub expected: &'static str,
    /// What it is.
    pub found: String,
}

impl Fault {
    /// The first of `checks` that fails: whether the value is right, its key, what it must be, and the value.
    pub fn first<T: fmt::Display>(
        checks: impl IntoIterator<Item = (bool, &'static str, &'static str, T)>,
    ) -> Option<Self> {
        let wrong = checks.into_iter().find(|(is_right, ..)| !is_right);
        wrong.map(|(_, key, expected, found)| Self {
            key,
            expected,
            found: found.to_string(),
        })
    }
}

impl LayerStyle {
    /// The first number that makes no sense.
    pub fn fault(&self) -> Option<Fault> {
        let (eps, momentum) = match self.norm {
            Norm::None => (1.0, 0.0),
            Norm::Instance { eps, .. } | Norm::Group { eps, .. } => (eps, 0.0),
            Norm::Batch { eps, momentum } => (eps, momentum),
        };
        let slope = match self.activation {
            Nonlinearity::LeakyRelu { slope } => slope,
            _ => 0.0,
        };
        let no_groups = Fault {
            key: "norm.groups",
            expected: "at least 1",
            found: "0".to_owned(),
        };
        let no_groups = matches!(self.norm, Norm::Group { groups: 0, .. }).then_some(no_groups);
        let is_share = |v: f32| (0.0..=1.0).contains(&v);
        Fault::first([
            (
                (0.0..1.0).contains(&self.dropout),
                "dropout",
                "at least 0 and below 1",
                self.dropout,
            ),
            (
                eps.is_finite() && eps > 0.0,
                "norm.eps",
                "a number above 0",
                eps,
            ),
            (
                is_share(momentum),
                "norm.momentum",
                "between 0 and 1",
                momentum,
            ),
            (
                slope.is_finite(),
                "activation.slope",
                "a finite number",
                slope,
            ),
        ])
        .or(no_groups)
    }
}

/// Reads `"batch"` as `{ kind = "batch" }`, so that whoever is content with the usual numbers need not write them.
///
/// # Errors
/// Those of the table; an unknown name says which there are.
pub fn name_or_table<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    from.deserialize_any(NameOrTable(PhantomData))
}

/// [`name_or_table`] of a key that may be left out.
///
/// # Errors
/// Those of [`name_or_table`].
pub fn name_or_table_if_given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    name_or_table(from).map(Some)
}

struct NameOrTable<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NameOrTable<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, or a table with a `kind`")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<T, E> {
        T::deserialize(MapDeserializer::new(std::iter::once(("kind", name))))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_the_usual_numbers() {
        let read = |text: &str| toml::from_str::<LayerStyle>(text).unwrap();
        assert_eq!(read(""), LayerStyle::default());
        let batch = read("norm = \"batch\"\nactivation = \"h_swish\"");
        let (eps, momentum) = (1e-5, 0.1);
        assert_eq!(batch.norm, Norm::Batch { eps, momentum });
        assert_eq!(batch.activation, Nonlinearity::HSwish);
        let groups = 8;
        assert_eq!(read("norm = \"group\"").norm, Norm::Group { groups, eps });
        let bare = read("norm = { kind = \"instance\", affine = false }");
        assert_eq!(bare.norm, Norm::BARE_INSTANCE);
        let table = read("norm = { kind = \"batch\", momentum = 0.5 }");
        assert_eq!(table.norm, Norm::Batch { eps, momentum: 0.5 });
    }

    #[test]
    fn unknown_names_say_which_there_are() {
        for (text, words) in [
            ("norm = \"layer\"", ["`layer`", "`instance`"]),
            ("activation = \"selu\"", ["`selu`", "`leaky_relu`"]),
            ("norm = { kind = \"batch\", slope = 1 }", ["`slope`", "eps"]),
        ] {
            let error = toml::from_str::<LayerStyle>(text).unwrap_err().to_string();
            assert!(words.iter().all(|w| error.contains(w)), "{error}");
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_named() {
        for (text, key) in [
            ("dropout = 1.0", "dropout"),
            ("dropout = nan", "dropout"),
            ("norm = { kind = \"instance\", eps = 0.0 }", "norm.eps"),
            ("norm = { kind = \"group\", eps = 0.0 }", "norm.eps"),
            ("norm = { kind = \"group\", groups = 0 }", "norm.groups"),
            (
                "norm = { kind = \"batch\", momentum = -0.1 }",
                "norm.momentum",
            ),
            (
                "activation = { kind = \"leaky_relu\", slope = inf }",
                "activation.slope",
            ),
        ] {
            let style: LayerStyle = toml::from_str(text).unwrap();
            assert_eq!(style.fault().map(|f| f.key), Some(key), "{text}");
        }
    }
}
