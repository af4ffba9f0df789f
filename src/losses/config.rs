//! The choice of a loss, as it stands in a configuration file.

use serde::{Deserialize, Serialize};

use crate::ops::loss::{Activation, LossAttributes, Normalise, PixelLoss, RegionLoss};
use crate::style::Fault;

/// `pixel_weight * pixel + region_weight * region`; a part that is left out does not count.
///
/// ```
/// let text = "batch_dice = true\n[pixel]\nkind = \"focal\"\ngamma = 2.0\n[region]\nkind = \"soft_dice\"\nsmooth = 1e-5";
/// let config: voxseg::losses::LossConfig = toml::from_str(text).unwrap();
/// assert!(config.batch_dice && !config.background);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Weight of the pixel loss.
    #[serde(default = "one")]
    pub pixel_weight: f32,
    /// Weight of the region loss.
    #[serde(default = "one")]
    pub region_weight: f32,
    /// Whether overlap is measured over the batch rather than in each sample.
    #[serde(default)]
    pub batch_dice: bool,
    /// Whether class 0 counts in the region loss; regions always count all.
    #[serde(default)]
    pub background: bool,
    /// What the pixel loss is divided by.
    #[serde(default = "by_weights")]
    pub normalise: Normalise,
    /// A weight for each class (the alpha of the focal loss); labels only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<Vec<f32>>,
    /// Mean over voxels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel: Option<PixelLoss>,
    /// Overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionLoss>,
    /// Share of the truth that is spread evenly over all classes: for the classes of whole images alone, and so no key
    /// of files that tell how to segment.
    #[serde(skip)]
    pub label_smoothing: f32,
}

fn one() -> f32 {
    1.0
}

fn by_weights() -> Normalise {
    Normalise::Weights
}

impl Default for LossConfig {
    /// nnU-Net's: cross-entropy + soft Dice without background, smooth 1e-5.
    fn default() -> Self {
        let attributes = LossAttributes::dice_ce();
        Self {
            pixel_weight: attributes.pixel_weight,
            region_weight: attributes.region_weight,
            batch_dice: attributes.batch_dice,
            background: attributes.background,
            normalise: attributes.normalise,
            class_weights: None,
            pixel: attributes.pixel,
            region: attributes.region,
            label_smoothing: 0.0,
        }
    }
}

impl LossConfig {
    /// Cross-entropy alone, as classifiers are trained, with `label_smoothing` from 0 to below 1.
    pub fn cross_entropy(label_smoothing: f32) -> Self {
        Self {
            region: None,
            label_smoothing,
            ..Self::default()
        }
    }

    /// The same with both parts of the default where neither is chosen: a table that only sets a weight or a switch.
    pub fn or_usual_parts(self) -> Self {
        if self.pixel.is_some() || self.region.is_some() {
            return self;
        }
        let Self { pixel, region, .. } = Self::default();
        Self {
            pixel,
            region,
            ..self
        }
    }

    /// The first choice that makes no sense, whatever the data.
    pub fn fault(&self) -> Option<Fault> {
        let amount = |key, v: f32| (v.is_finite() && v >= 0.0, key, "a number from 0 on", v);
        let mut checks = vec![
            amount("pixel_weight", self.pixel_weight),
            amount("region_weight", self.region_weight),
        ];
        if let Some(PixelLoss::Focal { gamma }) = self.pixel {
            let is_right = gamma == 0.0 || gamma.is_finite() && gamma >= 1.0;
            checks.push((is_right, "pixel.gamma", "0, or a number from 1 on", gamma));
        }
        match self.region {
            Some(RegionLoss::SoftDice { smooth }) => checks.push(amount("region.smooth", smooth)),
            Some(RegionLoss::Tversky {
                alpha,
                beta,
                smooth,
            }) => checks.extend([
                amount("region.alpha", alpha),
                amount("region.beta", beta),
                amount("region.smooth", smooth),
            ]),
            Some(RegionLoss::SquaredDice | RegionLoss::GeneralisedDice) | None => {}
        }
        let weights = self.class_weights.iter().flatten();
        checks.extend(weights.map(|&weight| amount("class_weights", weight)));
        let has_part = self.pixel.is_some() || self.region.is_some();
        let expected = "given where there is no `loss.region`";
        let no_part = Fault::first([(has_part, "pixel", expected, "neither")]);
        no_part.or_else(|| Fault::first(checks)).or_else(|| {
            let list = self.class_weights.as_ref()?;
            let is_right = list.iter().any(|weight| *weight > 0.0);
            let expected = "a list with a number above 0";
            Fault::first([(is_right, "class_weights", expected, format!("{list:?}"))])
        })
    }

    /// The operator's attributes.
    pub(super) fn attributes(
        &self,
        activation: Activation,
        ignore_label: Option<u32>,
        [class_weighted, voxel_weighted]: [bool; 2],
    ) -> LossAttributes {
        LossAttributes {
            activation,
            pixel: self.pixel,
            region: self.region,
            pixel_weight: self.pixel_weight,
            region_weight: self.region_weight,
            batch_dice: self.batch_dice,
            background: self.background || activation == Activation::Sigmoid,
            ignore_label,
            class_weighted,
            voxel_weighted,
            normalise: self.normalise,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_survive_toml() {
        let focal = LossConfig {
            pixel: Some(PixelLoss::Focal { gamma: 1.5 }),
            region: None,
            class_weights: Some(vec![0.25, 0.75]),
            normalise: Normalise::Voxels,
            ..LossConfig::default()
        };
        for config in [LossConfig::default(), focal] {
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<LossConfig>(&text).unwrap(), config);
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_named() {
        assert_eq!(LossConfig::default().fault(), None);
        for (text, key) in [
            ("batch_dice = true", "pixel"),
            ("pixel_weight = nan", "pixel_weight"),
            ("region_weight = -1.0", "region_weight"),
            ("class_weights = [1.0, -1.0]", "class_weights"),
            ("class_weights = [1.0, nan]", "class_weights"),
            ("class_weights = [0.0, 0.0]", "class_weights"),
            ("pixel = { kind = \"focal\", gamma = inf }", "pixel.gamma"),
            ("pixel = { kind = \"focal\", gamma = 0.5 }", "pixel.gamma"),
            (
                "region = { kind = \"soft_dice\", smooth = -1e-5 }",
                "region.smooth",
            ),
            (
                "region = { kind = \"tversky\", alpha = 0.3, beta = nan, smooth = 0.0 }",
                "region.beta",
            ),
        ] {
            let part = match text.contains('{') || key == "pixel" {
                true => "",
                false => "\npixel = { kind = \"cross_entropy\" }",
            };
            let config: LossConfig = toml::from_str(&format!("{text}{part}")).unwrap();
            assert_eq!(config.fault().map(|f| f.key), Some(key), "{text}");
        }
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let error = toml::from_str::<LossConfig>("batch_dise = true").unwrap_err();
        assert!(error.to_string().contains("batch_dise"));
    }
}
