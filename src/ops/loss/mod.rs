//! Losses: of segmentation and of the classes of images, with their gradients, and the weighted sum of several.

mod attributes;
mod class_entropy;
mod gradient;
mod mean_squared;
mod reduce;
mod segmentation;
mod weighted_sum;
mod words;

pub use attributes::{Activation, LossAttributes, MAX_CLASSES, Normalise, PixelLoss, RegionLoss};
pub use class_entropy::{ClassEntropy, ClassEntropyGradient, class_entropy};
pub use gradient::SegmentationLossGradient;
pub use mean_squared::{MeanSquared, MeanSquaredGradient, mean_squared};
pub use segmentation::{LossValues, SegmentationLoss, segmentation_loss};
pub use weighted_sum::{WeightedSum, WeightedSumGradient, weighted_sum};
pub use words::VARIANTS;

use crate::gpu::{Constants, Kernel};

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    [
        segmentation::kernels(),
        gradient::kernels(),
        weighted_sum::kernels(),
        class_entropy::kernels(),
        mean_squared::kernels(),
        vec![(&reduce::KERNEL, vec![vec![]])],
    ]
    .concat()
}
