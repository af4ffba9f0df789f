//! What the list of models says of each: its name, its source, and how it is made.

use std::sync::Arc;

use super::{Architecture, Key, ModelError, checks};
use crate::graph::{Graph, remove_dead_nodes};
use crate::nn::Mode;
use crate::style::{DecoderStyle, LayerStyle, TokenStyle};
use crate::tensor::Shape;

/// What a network is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A class for each voxel.
    Segmentation,
    /// A class for an image.
    Classification,
}

/// Channels, classes and extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Channels of the input.
    pub channels: usize,
    /// Channels of the logits.
    pub classes: usize,
    /// Extent (D, H, W) of the input in voxels.
    pub extent: [usize; 3],
}

impl Form {
    /// What ImageNet's classifiers take.
    pub(super) const IMAGENET: Self = Self {
        channels: 3,
        classes: 1000,
        extent: [1, 224, 224],
    };

    /// `n` along H and W, and along D too unless images are slices.
    pub(super) fn along(self, n: usize) -> [usize; 3] {
        match self.extent[0] {
            1 => [1, n, n],
            _ => [n; 3],
        }
    }
}

/// The stages that suit a data set, as planned by nnU-Net's rules (finest first), for any family to follow: strides
/// and features mean the same in each.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    /// Channels, classes and patch.
    pub form: Form,
    /// Features of each stage.
    pub features: Vec<usize>,
    /// Kernel (D, H, W) of the convolutions of each stage: 3, or 1 along axes that are too coarse.
    pub kernels: Vec<[usize; 3]>,
    /// Stride (D, H, W) into each stage; the first is 1.
    pub strides: Vec<[usize; 3]>,
    /// Convolutions of each encoder stage, or its residual blocks.
    pub encoder_blocks: Vec<usize>,
    /// Convolutions of each decoder stage.
    pub decoder_blocks: Vec<usize>,
    /// Decoder stages with a segmentation head, 0 = finest.
    pub heads: Vec<usize>,
    /// What follows each convolution.
    pub layers: LayerStyle,
    /// What a U-Net's decoder does with skips and heads.
    pub decoder: DecoderStyle,
    /// What the user decides of a transformer.
    pub tokens: TokenStyle,
}

impl Blueprint {
    /// The product of the strides: patch extents (D, H, W) are multiples of it.
    pub fn total_stride(&self) -> [usize; 3] {
        total_stride(&self.strides)
    }

    /// Whether it is for slices: nothing happens along D.
    pub fn is_planar(&self) -> bool {
        self.kernels.iter().all(|kernel| kernel[0] == 1)
    }

    /// Checks that its lists fit together and that a network can have its numbers.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming the list, what was expected and what was found.
    pub fn validate(&self) -> Result<(), ModelError> {
        let stages = self.features.len();
        let finer = stages.saturating_sub(1);
        checks::lists(
            (stages, 1),
            &[
                ("kernels", stages, self.kernels.len()),
                ("strides", stages, self.strides.len()),
                ("encoder_blocks", stages, self.encoder_blocks.len()),
                ("decoder_blocks", finer, self.decoder_blocks.len()),
            ],
        )?;
        let Form {
            channels,
            classes,
            extent,
        } = self.form;
        checks::within(
            checks::MOST_BLOCKS,
            "`encoder_blocks`",
            &self.encoder_blocks,
        )?;
        checks::within(
            checks::MOST_BLOCKS,
            "`decoder_blocks`",
            &self.decoder_blocks,
        )?;
        checks::within(MOST_FEATURES, "`features`", &self.features)?;
        checks::within(MOST_FEATURES, "`form.channels`", &[channels])?;
        checks::within(MOST_FEATURES, "`form.classes`", &[classes])?;
        checks::within(MOST_VOXELS, "`form.extent`", &extent)?;
        checks::within(MOST_VOXELS, "`kernels`", self.kernels.as_flattened())?;
        checks::within(MOST_VOXELS, "`strides`", self.strides.as_flattened())?;
        // A network of one stage has no decoder.
        if stages > 1 || !self.heads.is_empty() {
            checks::heads(&self.heads, finer)?;
        }
        checks::fault(self.layers.fault())?;
        checks::fault(self.tokens.fault())
    }

    /// The network that `make` makes of it.
    ///
    /// # Errors
    /// [`Blueprint::validate`].
    pub(super) fn network<A: Architecture + 'static>(
        &self,
        make: impl FnOnce(&Self) -> A,
    ) -> Result<Arc<dyn Architecture>, ModelError> {
        self.validate()?;
        Ok(Arc::new(make(self)))
    }
}

/// Features of a stage, at most: a layer from so many to as many has all the weights that kernels can number.
const MOST_FEATURES: usize = 65_535;

/// Extent of anything along an axis, in voxels, at most.
const MOST_VOXELS: usize = 1 << 20;

/// The product of strides (D, H, W); the largest number there is where it is larger.
pub(super) fn total_stride(strides: &[[usize; 3]]) -> [usize; 3] {
    strides.iter().fold([1; 3], |total: [usize; 3], stride| {
        std::array::from_fn(|axis| total[axis].saturating_mul(stride[axis]))
    })
}

/// Makes the published network for another form.
pub type OfForm = fn(Form) -> Result<Arc<dyn Architecture>, ModelError>;

/// Makes the network of a family that follows a blueprint.
pub type OfBlueprint = fn(&Blueprint) -> Result<Arc<dyn Architecture>, ModelError>;

/// How large a network is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    /// Elements of all trained parameters, heads for training among them.
    pub parameters: usize,
    /// Multiply-adds of convolutions and matrix products for one input at inference.
    pub madds: f64,
}

impl Counts {
    /// Counts those of `architecture` for one input of `form`.
    ///
    /// # Errors
    /// [`ModelError`] where the input does not fit.
    pub fn of(architecture: &dyn Architecture, form: Form) -> Result<Self, ModelError> {
        let mut graph = Graph::new();
        let shape = Shape::new(1, form.channels, 1, 1, 1).with_spatial(form.extent);
        let image = graph.input("image", shape)?;
        let heads = architecture.build(&mut graph, image, Mode::Inference)?;
        let parameters = graph.parameter_count();
        remove_dead_nodes(&mut graph, &heads.logits[..1]);
        Ok(Self {
            parameters,
            madds: graph.product_madds(),
        })
    }
}

/// How names end of networks that are for slices, and for volumes.
const SLICES: &str = "2d";
const VOLUMES: &str = "3d";

/// A network that users can name.
#[derive(Debug)]
pub struct Model {
    /// How the user calls it, `unet3d_cicek`.
    pub name: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// Where it is defined: authors and year.
    pub source: &'static str,
    /// What it is made for.
    pub task: Task,
    /// Channels, classes and extent as published.
    pub published: Form,
    /// The published network for any form.
    pub of_form: OfForm,
    /// The network as training makes it for a data set; `None` where it is not for patches of a plan.
    pub of_blueprint: Option<OfBlueprint>,
    /// The keys of `[network]` that it follows, in groups; all others it has of its own. A test holds it to both.
    pub follows: &'static [&'static [Key]],
}

impl Model {
    /// An entry for a classifier of images such as ImageNet's.
    pub(super) const fn classifier(
        name: &'static str,
        title: &'static str,
        source: &'static str,
        of_form: OfForm,
    ) -> Self {
        Self {
            name,
            title,
            source,
            task: Task::Classification,
            published: Form::IMAGENET,
            of_form,
            of_blueprint: None,
            follows: &[],
        }
    }

    /// Whether its name says that it is for slices (`2d` at its end) rather than for volumes (`3d`); `None` where it is for
    /// both.
    pub fn planar(&self) -> Option<bool> {
        let is_for = |images: &str| self.name.ends_with(images);
        (is_for(SLICES) || is_for(VOLUMES)).then(|| is_for(SLICES))
    }

    /// Whether it follows `key`.
    pub fn follows(&self, key: Key) -> bool {
        self.follows.iter().any(|group| group.contains(&key))
    }

    /// The name that it has for slices instead of volumes, or the other way round.
    pub(super) fn other_name(&self) -> Option<String> {
        let other = |from, to| Some(format!("{}{to}", self.name.strip_suffix(from)?));
        other(SLICES, VOLUMES).or_else(|| other(VOLUMES, SLICES))
    }

    /// How large the published network is.
    ///
    /// # Errors
    /// [`ModelError`] where it contradicts itself.
    pub fn counts(&self) -> Result<Counts, ModelError> {
        let architecture = (self.of_form)(self.published)?;
        Counts::of(architecture.as_ref(), self.published)
    }
}
