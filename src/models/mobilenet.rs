//! What the MobileNets share, some of it with other classifiers: widths, and the end of a classifier.

use crate::graph::{Graph, GraphError, Init};
use crate::nn::{ChannelDropout, linear_layer};
use crate::ops::ValueId;

/// How fully connected layers of classifiers start, as torchvision has it.
pub(super) const LINEAR_INIT: Init = Init::Normal { std: 0.01 };

/// Channels times a width multiplier: the nearest multiple of 8, at least 8, and the next one where that would take off
/// more than a tenth (the authors' code, and that of torchvision and timm).
pub(super) fn scaled(channels: usize, width: f64) -> usize {
    let exact = channels as f64 * width;
    let nearest = (((exact + 4.0) / 8.0) as usize).saturating_mul(8).max(8);
    match (nearest as f64) < 0.9 * exact {
        true => nearest.saturating_add(8),
        false => nearest,
    }
}

/// Appends dropout, where there is any, and the last fully connected layer `name`: x (N, C, 1, 1, 1) to
/// (N, classes, 1, 1, 1).
pub(super) fn classify(
    graph: &mut Graph,
    mut x: ValueId,
    classes: usize,
    name: &str,
    dropout: Option<ChannelDropout>,
) -> Result<ValueId, GraphError> {
    if let Some(dropout) = dropout {
        x = dropout.build(graph, x)?;
    }
    graph.scope(name, |g| linear_layer(g, x, classes, LINEAR_INIT, true))
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn widths_are_multiples_of_eight_and_lose_at_most_a_tenth() {
        for (channels, width, expected) in [
            (32, 1.0, 32),
            (32, 0.35, 16),
            (16, 0.35, 8),
            (24, 0.35, 8),
            (24, 0.5, 16),
            (96, 0.35, 32),
            (1280, 1.4, 1792),
        ] {
            assert_eq!(scaled(channels, width), expected, "{channels} * {width}");
        }
    }
}
