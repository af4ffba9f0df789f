//! Vision transformers (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"), with the names of timm's
//! `vit_base_patch16_224` and its likes.
//!
//! | network | parameters |
//! |---|---|
//! | B/16, B/32 | 86,567,656, 88,224,232 |
//! | L/16 | 304,326,632 |
//! | S/16, Ti/16 (Touvron et al. 2021) | 22,050,664, 5,717,416 |
//!
//! The position embeddings belong to the tokens of images of one extent. timm stores them as (1, 1 + L, E); here they are
//! (1, E, 1, 1, 1 + L), as all tokens are.

use std::sync::Arc;

use super::patches::{check_extent, tokens_of};
use super::{Architecture, Form, Heads, Model, ModelError, checks};
use crate::graph::{Axes, Graph, GraphError, Init};
use crate::nn::{
    Mode, TransformerBlock, TransformerNames, layer_norm_layer, linear_layer, patch_embedding,
};
use crate::ops::border::{Fill, crop, pad};
use crate::ops::elementwise::{add, add_broadcast};
use crate::ops::{Build, ValueId};
use crate::tensor::Shape;

/// A classifier that reads its answer off a token of its own, the class token, the first of the row.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionTransformer {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits.
    pub classes: usize,
    /// Extent (D, H, W) of the images in voxels.
    pub extent: [usize; 3],
    /// Extent (D, H, W) of a patch, which becomes a token.
    pub patch: [usize; 3],
    /// Features of a token.
    pub features: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Features between the two layers of each perceptron.
    pub hidden: usize,
}

/// timm's.
const EPS: f32 = 1e-6;

/// How timm's weights start.
const INIT: Init = Init::Normal { std: 0.02 };

impl VisionTransformer {
    /// A published network, patches of `patch` voxels a side and heads of 64 features, for another form; for volumes where the
    /// form's extent is more than 1 along D.
    pub fn published(form: Form, patch: usize, features: usize, depth: usize) -> Self {
        Self {
            in_channels: form.channels,
            classes: form.classes,
            extent: form.extent,
            patch: form.along(patch),
            features,
            depth,
            heads: features / 64,
            hidden: 4 * features,
        }
    }

    /// The class token before the patches, with the position of each: (N, E, 1, 1, L) to (N, E, 1, 1, 1 + L).
    fn with_class_token(&self, graph: &mut Graph, patches: ValueId) -> Result<ValueId, GraphError> {
        let tokens = graph.shape(patches).voxels();
        let (one, all) = (Shape::vector(self.features), [1, 1, 1 + tokens]);
        let class =
            graph.parameter_with("cls_token", one, Init::Normal { std: 1e-6 }, Axes::Tokens)?;
        let positions =
            graph.parameter_with("pos_embed", one.with_spatial(all), INIT, Axes::Tokens)?;
        let (zeros, front, behind) = (Fill::Constant(0.0), [0, 0, 1], [0, 0, tokens]);
        let mut add_them = || {
            let class = pad(graph, class, [0; 3], behind, zeros)?;
            let added = add(graph, positions, class)?;
            let row = pad(graph, patches, front, [0; 3], zeros)?;
            add_broadcast(graph, row, added)
        };
        add_them().map_err(|e| graph.blame(e))
    }
}

impl Architecture for VisionTransformer {
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
            ("heads", self.heads),
            ("hidden", self.hidden),
        ])?;
        tokens_of(self.extent, self.patch)?;
        check_extent(graph, image, self.extent)?;
        let block = TransformerBlock {
            heads: self.heads,
            hidden: self.hidden,
            qkv_bias: true,
            eps: EPS,
            init: INIT,
            names: TransformerNames::TIMM,
        };
        let patches = graph.scope("patch_embed.proj", |g| {
            patch_embedding(g, image, self.features, self.patch)
        })?;
        let mut x = self.with_class_token(graph, patches)?;
        for i in 0..self.depth {
            x = graph.scope(format!("blocks.{i}"), |g| block.build(g, x))?;
        }
        // Tokens are normalised each for itself, and only the first is read.
        let class = crop(graph, x, [0; 3], [1; 3]).map_err(|e| graph.blame(e))?;
        let class = graph.scope("norm", |g| layer_norm_layer(g, class, EPS))?;
        let logits = graph.scope("head", |g| linear_layer(g, class, self.classes, INIT, true))?;
        Ok(Heads {
            logits: vec![logits],
            dropout_seed: None,
        })
    }
}

const VIT: &str = "Dosovitskiy et al. 2021";
const DEIT: &str = "Touvron et al. 2021";

pub(super) static B16: Model =
    Model::classifier("vit_b16", "Vision transformer B/16", VIT, |form| {
        Ok(Arc::new(VisionTransformer::published(form, 16, 768, 12)))
    });

pub(super) static B32: Model =
    Model::classifier("vit_b32", "Vision transformer B/32", VIT, |form| {
        Ok(Arc::new(VisionTransformer::published(form, 32, 768, 12)))
    });

pub(super) static L16: Model =
    Model::classifier("vit_l16", "Vision transformer L/16", VIT, |form| {
        Ok(Arc::new(VisionTransformer::published(form, 16, 1024, 24)))
    });

pub(super) static S16: Model =
    Model::classifier("vit_s16", "Vision transformer S/16", DEIT, |form| {
        Ok(Arc::new(VisionTransformer::published(form, 16, 384, 12)))
    });

pub(super) static TI16: Model =
    Model::classifier("vit_ti16", "Vision transformer Ti/16", DEIT, |form| {
        Ok(Arc::new(VisionTransformer::published(form, 16, 192, 12)))
    });
