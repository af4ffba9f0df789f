//! MLP-Mixer (Tolstikhin et al. 2021, "MLP-Mixer: An all-MLP Architecture for Vision"), with the names of timm's
//! `mixer_b16_224` and its likes.
//!
//! | network | parameters |
//! |---|---|
//! | S/32, S/16 | 19,104,624, 18,528,264 |
//! | B/32, B/16 | 60,293,428, 59,880,472 |
//! | L/16 | 208,196,168 |
//!
//! B/16 takes 12.6 G multiply-adds at 224 x 224. The number of tokens is fixed by the weights that mix them, and with it the extent
//! of the images.

use std::sync::Arc;

use super::patches::{check_extent, tokens_of};
use super::{Architecture, Form, Heads, Model, ModelError, checks};
use crate::graph::{Graph, Init};
use crate::nn::{MixerBlock, Mode, layer_norm_layer, linear_layer, patch_embedding};
use crate::ops::ValueId;
use crate::ops::pool::global_avg_pool;

/// A classifier of layers that mix tokens and layers that mix features.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixer {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits.
    pub classes: usize,
    /// Extent (D, H, W) of the images in voxels.
    pub extent: [usize; 3],
    /// Extent (D, H, W) of a patch, which becomes a token.
    pub patch: [usize; 3],
    /// Features of a token, C in the paper.
    pub features: usize,
    /// Blocks.
    pub depth: usize,
    /// Tokens between two layers that mix them, D_S.
    pub hidden_tokens: usize,
    /// Features between two layers that mix them, D_C.
    pub hidden_features: usize,
}

/// timm's.
const EPS: f32 = 1e-6;

impl Mixer {
    /// A published network, patches of `patch` voxels a side, for another form; for volumes where the form's extent is more than
    /// 1 along D. Of the paper's table 1: D_S is half of C and D_C four times it.
    pub fn published(form: Form, patch: usize, features: usize, depth: usize) -> Self {
        Self {
            in_channels: form.channels,
            classes: form.classes,
            extent: form.extent,
            patch: form.along(patch),
            features,
            depth,
            hidden_tokens: features / 2,
            hidden_features: 4 * features,
        }
    }
}

impl Architecture for Mixer {
    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn out_channels(&self) -> usize {
        self.classes
    }

    fn steps(&self) -> Option<[usize; 3]> {
        None
    }

    fn build(&self, graph: &mut Graph, image: ValueId, _mode: Mode) -> Result<Heads, ModelError> {
        checks::positive([
            ("in_channels", self.in_channels),
            ("classes", self.classes),
            ("features", self.features),
            ("depth", self.depth),
            ("hidden_tokens", self.hidden_tokens),
            ("hidden_features", self.hidden_features),
        ])?;
        tokens_of(self.extent, self.patch)?;
        check_extent(graph, image, self.extent)?;
        let block = MixerBlock {
            hidden_tokens: self.hidden_tokens,
            hidden_features: self.hidden_features,
            eps: EPS,
            init: Init::KaimingNormal { a: 1.0 },
        };
        let mut x = graph.scope("stem.proj", |g| {
            patch_embedding(g, image, self.features, self.patch)
        })?;
        for i in 0..self.depth {
            x = graph.scope(format!("blocks.{i}"), |g| block.build(g, x))?;
        }
        let x = graph.scope("norm", |g| layer_norm_layer(g, x, EPS))?;
        let means = global_avg_pool(graph, x).map_err(|e| graph.blame(e))?;
        // The paper's head starts as 0: the first gradients are those of the head alone.
        let init = Init::Constant(0.0);
        let logits = graph.scope("head", |g| linear_layer(g, means, self.classes, init, true))?;
        Ok(Heads {
            logits: vec![logits],
            dropout_seed: None,
        })
    }
}

const SOURCE: &str = "Tolstikhin et al. 2021";

pub(super) static S32: Model = Model::classifier("mixer_s32", "MLP-Mixer S/32", SOURCE, |form| {
    Ok(Arc::new(Mixer::published(form, 32, 512, 8)))
});

pub(super) static S16: Model = Model::classifier("mixer_s16", "MLP-Mixer S/16", SOURCE, |form| {
    Ok(Arc::new(Mixer::published(form, 16, 512, 8)))
});

pub(super) static B32: Model = Model::classifier("mixer_b32", "MLP-Mixer B/32", SOURCE, |form| {
    Ok(Arc::new(Mixer::published(form, 32, 768, 12)))
});

pub(super) static B16: Model = Model::classifier("mixer_b16", "MLP-Mixer B/16", SOURCE, |form| {
    Ok(Arc::new(Mixer::published(form, 16, 768, 12)))
});

pub(super) static L16: Model = Model::classifier("mixer_l16", "MLP-Mixer L/16", SOURCE, |form| {
    Ok(Arc::new(Mixer::published(form, 16, 1024, 24)))
});
