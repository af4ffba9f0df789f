//! Heads that are summed from coarse to fine into one output.

use crate::graph::{Graph, GraphError};
use crate::ops::elementwise::add;
use crate::ops::resample::{Mode, resample};
use crate::ops::{Build, OpError, ValueId};

/// Appends the sum of `logits` (N, K, D_i, H_i, W_i), coarsest first: the sum of all coarser ones is resampled by `mode`
/// to the grid of the next and added to it. The result has the grid of the last.
///
/// # Errors
/// [`GraphError::Node`] where there are no logits, or their samples or classes differ.
pub(super) fn summed_heads(
    graph: &mut Graph,
    logits: &[ValueId],
    mode: Mode,
) -> Result<ValueId, GraphError> {
    let Some((&coarsest, finer)) = logits.split_first() else {
        return Err(graph.blame(OpError::InputCount {
            op: "summed heads",
            expected: 1,
            found: 0,
        }));
    };
    graph.scope("sum", |g| {
        finer.iter().try_fold(coarsest, |sum, &head| {
            let grid = g.shape(head).spatial();
            let sum = resample(g, sum, grid, mode).and_then(|sum| add(g, sum, head));
            sum.map_err(|e| g.blame(e))
        })
    })
}
