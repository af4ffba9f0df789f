//! The family of networks of a run: which one, whether it is for such images, and which keys of the configuration it follows.

use super::TrainConfig;
use super::config::{ConfigError, NetworkConfig};
use crate::dataset::Plan;
use crate::models::{Key, check_dimensions, is_residual_encoder, model, nnunet_name};
use crate::run::family_of;

impl TrainConfig {
    /// Whether stages are planned as residual blocks.
    pub(super) fn has_residual_encoder(&self) -> bool {
        let name = self.network.model.as_deref();
        self.network.residual == Some(true) || name.is_some_and(is_residual_encoder)
    }

    /// Whether slices are trained on instead of volumes, as far as it is decided before the data are known: `planar` says
    /// so, or the name of the network.
    pub fn planar(&self) -> Option<bool> {
        let name = self.network.model.as_deref();
        let named = name.and_then(|name| model(name).ok()?.planar());
        // A name that is for volumes does not make volumes of slices.
        self.network.planar.or(named.filter(|planar| *planar))
    }

    /// Checks, before the data are known, that the network of a new run is for what the other keys say and follows them.
    /// Runs of earlier versions may say what their network does not follow, and go on.
    ///
    /// # Errors
    /// [`ConfigError::Model`], [`ConfigError::NotFollowed`]; [`ConfigError::Value`] for `residual`.
    pub(super) fn check_family(&self) -> Result<(), ConfigError> {
        let network = &self.network;
        let residual = self.has_residual_encoder();
        let Some(name) = network.model.as_deref() else {
            return network.check_followed(nnunet_name(residual, self.planar() == Some(true)));
        };
        if let Some(planar) = network.planar {
            let found = match planar {
                true => "`network.planar` is true",
                false => "`network.planar` is false",
            };
            check_dimensions(name, planar, found).map_err(ConfigError::Model)?;
        }
        if let Some(wanted) = network.residual.filter(|r| *r != is_residual_encoder(name)) {
            return Err(ConfigError::Value {
                key: "network.residual".into(),
                expected: "left out where `model` says the family; those with a residual encoder are `resenc3d` and `resenc2d`",
                found: format!("{wanted} with `{name}`"),
            });
        }
        network.check_followed(name)
    }

    /// The name of the family for a plan of slices (`planar`) or volumes: the given one, else nnU-Net's.
    ///
    /// # Errors
    /// [`ConfigError::Model`] where it is for volumes, and each case is a slice.
    pub(super) fn family_for(&self, planar: bool) -> Result<String, ConfigError> {
        let Some(name) = &self.network.model else {
            let residual = self.has_residual_encoder();
            return Ok(nnunet_name(residual, planar).to_owned());
        };
        let found = match planar {
            true => "each case of the data set is a single slice",
            false => "the cases of the data set are volumes",
        };
        check_dimensions(name, planar, found).map_err(ConfigError::Model)?;
        Ok(name.clone())
    }
}

impl NetworkConfig {
    /// Checks that the network of that name follows all keys that are given.
    ///
    /// # Errors
    /// [`ConfigError::NotFollowed`], [`ConfigError::Model`].
    fn check_followed(&self, name: &str) -> Result<(), ConfigError> {
        let model = model(name).map_err(ConfigError::Model)?;
        let idle = Key::ALL.into_iter();
        let idle = idle.filter(|&key| self.says(key) && !model.follows(key));
        let keys: Vec<String> = idle.map(Key::words).collect();
        match keys.is_empty() {
            true => Ok(()),
            false => Err(ConfigError::NotFollowed {
                name: name.to_owned(),
                keys,
            }),
        }
    }

    /// Whether `key` is given, be it with the value that is usual.
    fn says(&self, key: Key) -> bool {
        match key {
            Key::BaseFeatures => self.base_features.is_some(),
            Key::MaxFeatures => self.max_features.is_some(),
            Key::Features => self.features.is_some(),
            Key::MaxStages => self.max_stages.is_some(),
            Key::Kernels => self.kernels.is_some(),
            Key::KernelSizes => {
                let mut taps = self.kernels.iter().flatten().flatten();
                taps.any(|n| ![1, 3].contains(n))
            }
            Key::Strides => self.strides.is_some(),
            Key::EncoderBlocks => self.encoder_blocks.is_some(),
            Key::DecoderBlocks => self.decoder_blocks.is_some(),
            Key::Heads => self.heads.is_some(),
            Key::HeadStyle => self.head_style.is_some(),
            Key::AttentionGates => self.attention_gates.is_some(),
            Key::Tokens => !self.tokens.is_planned(),
            Key::Dropout => self.dropout.is_some(),
            Key::Norm => self.norm.is_some(),
            Key::Activation => self.activation.is_some(),
        }
    }

    /// It with the choices of `plan` that its network follows. What it does not follow stays as it is: left out of new
    /// runs, and in those of earlier versions what their checkpoints know them by.
    pub(super) fn with_choices(&self, plan: &Plan) -> Self {
        // A network that cannot be built is refused where it is.
        let model = model(family_of(plan)).ok();
        let follows = |key| model.is_none_or(|model| model.follows(key));
        let (topology, layers, decoder) = (&plan.topology, plan.layers, plan.decoder);
        let mut network = self.clone();
        if self.features.is_none() {
            let (first, most) = (topology.features.first(), topology.features.iter().max());
            fill(
                &mut network.base_features,
                follows(Key::BaseFeatures),
                first.copied(),
            );
            fill(
                &mut network.max_features,
                follows(Key::MaxFeatures),
                most.copied(),
            );
        }
        let [encoder, heads] = [topology.encoder_blocks(), topology.heads()];
        network.max_stages = Some(topology.stages());
        network.planar = Some(plan.preprocessing.planar);
        network.kernels = Some(topology.kernels.clone());
        network.strides = Some(topology.strides.clone());
        fill(
            &mut network.encoder_blocks,
            follows(Key::EncoderBlocks),
            Some(encoder),
        );
        fill(
            &mut network.decoder_blocks,
            follows(Key::DecoderBlocks),
            Some(topology.decoder_blocks()),
        );
        fill(&mut network.heads, follows(Key::Heads), Some(heads));
        fill(
            &mut network.dropout,
            follows(Key::Dropout),
            Some(layers.dropout),
        );
        fill(&mut network.norm, follows(Key::Norm), Some(layers.norm));
        fill(
            &mut network.activation,
            follows(Key::Activation),
            Some(layers.activation),
        );
        // Earlier versions left these two as they were, whatever the plan of --from said.
        let unsaid = self.head_style.is_none();
        fill(
            &mut network.head_style,
            unsaid && follows(Key::HeadStyle),
            Some(decoder.head_style),
        );
        let unsaid = self.attention_gates.is_none();
        fill(
            &mut network.attention_gates,
            unsaid && follows(Key::AttentionGates),
            Some(decoder.attention_gates),
        );
        // The name says it, unless there is none.
        if self.residual.is_some() || plan.model.is_none() {
            network.residual = Some(topology.blocks.is_some());
        }
        network.model = plan.model.clone();
        network
    }
}

fn fill<T>(slot: &mut Option<T>, is_followed: bool, choice: Option<T>) {
    if is_followed {
        *slot = choice;
    }
}
