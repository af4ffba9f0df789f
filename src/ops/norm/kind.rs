//! Which elements share a mean and a variance.

use crate::ops::OpError;
use crate::ops::parts::Samples;
use crate::tensor::Shape;

/// Which elements of a tensor (N, C, D, H, W) share statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Those of one channel of one sample (Ulyanov et al. 2016); statistics (N, C, 1, 1, 1).
    Instance,
    /// Those of C / groups neighbouring channels of one sample (Wu and He 2018), and with one group all of a sample
    /// (Ba et al. 2016); statistics (N, groups, 1, 1, 1).
    Group {
        /// Number of groups; divides C.
        groups: usize,
    },
    /// Those of one channel of all samples (Ioffe and Szegedy 2015); statistics (1, C, 1, 1, 1).
    Batch,
}

impl NormKind {
    /// The shape of the statistics of `x`.
    ///
    /// # Errors
    /// [`OpError::Shape`] where the groups do not divide C.
    pub fn stats_shape(self, op: &'static str, x: Shape) -> Result<Shape, OpError> {
        match self {
            Self::Instance => Ok(Shape::new(x.n(), x.c(), 1, 1, 1)),
            Self::Batch => Ok(Shape::vector(x.c())),
            Self::Group { groups } if groups > 0 && x.c().is_multiple_of(groups) => {
                Ok(Shape::new(x.n(), groups, 1, 1, 1))
            }
            Self::Group { groups } => Err(OpError::Shape {
                op,
                what: "the input",
                expected: format!("of a number of channels that {groups} groups divide"),
                found: x,
            }),
        }
    }

    /// Neighbouring channels that share statistics.
    pub(super) const fn channels_per_stat(self, x: Shape) -> usize {
        match self {
            Self::Instance | Self::Batch => 1,
            Self::Group { groups } => x.c() / groups,
        }
    }

    /// The same kind for `channels` neighbouring channels of `x`, whole groups of them.
    pub(super) const fn for_channels(self, x: Shape, channels: usize) -> Self {
        match self {
            Self::Instance | Self::Batch => self,
            Self::Group { .. } => Self::Group {
                groups: channels / self.channels_per_stat(x),
            },
        }
    }

    /// Whether the samples of a batch meet in the statistics.
    pub(super) const fn samples(self) -> Samples {
        match self {
            Self::Batch => Samples::Together,
            Self::Instance | Self::Group { .. } => Samples::Apart,
        }
    }

    /// Pairs (sample, channel) that share statistics.
    pub(super) const fn members(self, x: Shape) -> usize {
        match self {
            Self::Batch => x.n(),
            Self::Instance | Self::Group { .. } => self.channels_per_stat(x),
        }
    }
}
