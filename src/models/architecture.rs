//! What a training step or a prediction needs to know of a network, whatever its family.

use std::fmt::Debug;
use std::sync::Arc;

use super::ModelError;
use crate::graph::Graph;
use crate::losses::Supervision;
use crate::nn::Mode;
use crate::ops::ValueId;
use crate::ops::layout::convert;
use crate::tensor::Element;

/// The logits of the heads in a graph: of a segmentation network finest first, of a classifier the main one first.
#[derive(Clone, Debug)]
pub struct Heads {
    /// (N, out_channels, D, H, W) each, at the resolution of its head; (N, out_channels, 1, 1, 1) of classifiers.
    pub logits: Vec<ValueId>,
    /// Input, a scalar: the seed of the step's dropout ([`crate::ops::dropout::seed_bits`]), where there is any.
    pub dropout_seed: Option<ValueId>,
}

/// A network for given channels and classes.
pub trait Architecture: Debug + Send + Sync {
    /// Channels of the input.
    fn in_channels(&self) -> usize;

    /// Channels of the logits: classes with the background, regions, or the classes of whole images.
    fn out_channels(&self) -> usize;

    /// Number of heads that a training step supervises.
    fn heads(&self) -> usize {
        1
    }

    /// How much the loss of each head counts where nobody says otherwise; nnU-Net's rule unless the network's source has
    /// one of its own.
    fn supervision(&self) -> Supervision {
        Supervision::Halving
    }

    /// What extents (D, H, W) of the input must be multiples of; `None` where the rule is not so simple.
    fn steps(&self) -> Option<[usize; 3]>;

    /// Appends the network to `graph`; `image` is (N, in_channels, D, H, W), stored as f32 or f16.
    ///
    /// The first of the logits is what inference reads. Heads for training alone may be left out at inference where no
    /// run needs their parameters; else what inference does not read is removed by [`crate::graph::remove_dead_nodes`].
    ///
    /// # Errors
    /// [`ModelError::Config`] where its numbers do not fit together; a shape error where the image does not fit.
    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError>;
}

/// A network with the storage of its activations.
#[derive(Clone, Debug)]
pub struct Network {
    architecture: Arc<dyn Architecture>,
    /// How activations are stored; parameters and statistics are f32 whatever it is.
    pub precision: Element,
}

impl Network {
    /// A network whose activations are stored as f32.
    pub fn new(architecture: Arc<dyn Architecture>) -> Self {
        Self {
            architecture,
            precision: Element::F32,
        }
    }

    /// The same with activations stored as `precision`.
    pub fn stored_as(self, precision: Element) -> Self {
        Self { precision, ..self }
    }

    /// [`Architecture::in_channels`].
    pub fn in_channels(&self) -> usize {
        self.architecture.in_channels()
    }

    /// [`Architecture::out_channels`].
    pub fn out_channels(&self) -> usize {
        self.architecture.out_channels()
    }

    /// [`Architecture::heads`].
    pub fn heads(&self) -> usize {
        self.architecture.heads()
    }

    /// [`Architecture::supervision`].
    pub fn supervision(&self) -> Supervision {
        self.architecture.supervision()
    }

    /// [`Architecture::steps`].
    pub fn steps(&self) -> Option<[usize; 3]> {
        self.architecture.steps()
    }

    /// Appends the network to `graph`. `image` is (N, in_channels, D, H, W) in f32; the logits are stored as
    /// [`Network::precision`] says.
    ///
    /// # Errors
    /// As [`Architecture::build`].
    pub fn build(
        &self,
        graph: &mut Graph,
        image: ValueId,
        mode: Mode,
    ) -> Result<Heads, ModelError> {
        let image = convert(graph, image, self.precision).map_err(|e| graph.blame(e))?;
        self.architecture.build(graph, image, mode)
    }
}

impl<A: Architecture + 'static> From<A> for Network {
    fn from(architecture: A) -> Self {
        Self::new(Arc::new(architecture))
    }
}
