//! Operators that treat each element for itself, wherever it stands.

use super::halves;
use super::views::ALIGNMENT;
use crate::ops::{Lowering, OpError, Operand};

/// Appends the node part by part; `lower` sees vectors of some elements. Operands with as many elements as input 0 are cut,
/// and must be dense; others are whole.
pub(in crate::ops) fn by_elements(
    to: &mut Lowering<'_>,
    lower: impl Fn(&mut Lowering<'_>) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let all = to.inputs[0].shape.len();
    let most = to.most_elements().saturating_sub(ALIGNMENT);
    to.first_that_fits(&halves(most.min(all), 1), |to, size| {
        let kept = to.scratch.len();
        for first in (0..all).step_by(size) {
            let range = first..all.min(first + size);
            let of = |o: &Operand| match o.shape.len() == all {
                true => o.elements(range.clone()),
                false => *o,
            };
            let inputs: Vec<Operand> = to.inputs.iter().map(of).collect();
            let outputs: Vec<Operand> = to.outputs.iter().map(of).collect();
            to.part(kept, &inputs, &outputs, &lower)?;
        }
        Ok(())
    })
}

/// `x` itself where the device can bind it, else its elements in vectors of a multiple of `unit`; it is dense then.
pub(in crate::ops) fn pieces(to: &Lowering<'_>, x: &Operand, unit: usize) -> Vec<Operand> {
    let most = to.most_elements();
    if x.end() <= most || !x.is_dense() {
        return vec![*x];
    }
    let size = (most.saturating_sub(ALIGNMENT) / unit * unit).max(unit);
    let all = x.shape.len();
    (0..all)
        .step_by(size)
        .map(|first| x.elements(first..all.min(first + size)))
        .collect()
}
