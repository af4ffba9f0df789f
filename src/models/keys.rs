//! Keys of `[network]` in a configuration, and what it means that a network follows one.

/// A choice about a network beside its family. A network follows a key where another value of it makes another network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Features of the finest stage.
    BaseFeatures,
    /// The most features of a stage.
    MaxFeatures,
    /// Features of each stage.
    Features,
    /// The most stages.
    MaxStages,
    /// Along which axes the kernels of each stage extend: entries of 1 or of 3.
    Kernels,
    /// How far they extend: other entries.
    KernelSizes,
    /// Stride into each stage.
    Strides,
    /// Convolutions, or blocks, of each encoder stage.
    EncoderBlocks,
    /// Convolutions of each decoder stage.
    DecoderBlocks,
    /// Decoder stages with a head.
    Heads,
    /// What becomes of the heads.
    HeadStyle,
    /// Whether skips have attention gates.
    AttentionGates,
    /// The transformer.
    Tokens,
    /// Share of the channels that are dropped.
    Dropout,
    /// Normalisation.
    Norm,
    /// Activation.
    Activation,
}

impl Key {
    /// All there are.
    pub const ALL: [Self; 16] = [
        Self::BaseFeatures,
        Self::MaxFeatures,
        Self::Features,
        Self::MaxStages,
        Self::Kernels,
        Self::KernelSizes,
        Self::Strides,
        Self::EncoderBlocks,
        Self::DecoderBlocks,
        Self::Heads,
        Self::HeadStyle,
        Self::AttentionGates,
        Self::Tokens,
        Self::Dropout,
        Self::Norm,
        Self::Activation,
    ];

    /// How wide the stages are.
    pub(super) const FEATURES: &'static [Self] =
        &[Self::BaseFeatures, Self::MaxFeatures, Self::Features];

    /// How many stages there are, and what each sees.
    pub(super) const STAGES: &'static [Self] = &[
        Self::MaxStages,
        Self::Kernels,
        Self::KernelSizes,
        Self::Strides,
    ];

    /// How much each stage computes.
    pub(super) const BLOCKS: &'static [Self] = &[Self::EncoderBlocks, Self::DecoderBlocks];

    /// What follows each convolution.
    pub(super) const LAYERS: &'static [Self] = &[Self::Dropout, Self::Norm, Self::Activation];

    /// As it stands in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::BaseFeatures => "base_features",
            Self::MaxFeatures => "max_features",
            Self::Features => "features",
            Self::MaxStages => "max_stages",
            Self::Kernels | Self::KernelSizes => "kernels",
            Self::Strides => "strides",
            Self::EncoderBlocks => "encoder_blocks",
            Self::DecoderBlocks => "decoder_blocks",
            Self::Heads => "heads",
            Self::HeadStyle => "head_style",
            Self::AttentionGates => "attention_gates",
            Self::Tokens => "tokens",
            Self::Dropout => "dropout",
            Self::Norm => "norm",
            Self::Activation => "activation",
        }
    }

    /// The key in a sentence, with the values where only some of them are meant.
    pub fn words(self) -> String {
        let values = match self {
            Self::KernelSizes => " other than 1 and 3",
            _ => "",
        };
        format!("`{}`{values}", self.name())
    }
}
