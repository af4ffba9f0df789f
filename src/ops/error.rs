//! Why an operator refuses its inputs or its device.

use crate::tensor::Shape;

/// An error of an operator; the graph adds the name of the node.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// The number of inputs is wrong.
    #[error("{op} takes {expected} inputs, found {found}")]
    InputCount {
        /// The operator.
        op: &'static str,
        /// How many it takes.
        expected: usize,
        /// How many it got.
        found: usize,
    },
    /// An input has the wrong shape.
    #[error("{op}: {what} must be {expected}, found {found}")]
    Shape {
        /// The operator.
        op: &'static str,
        /// Which input.
        what: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: Shape,
    },
    /// An attribute makes no sense.
    #[error("{op}: {reason}")]
    Attribute {
        /// The operator.
        op: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// There is no backward rule.
    #[error("{op} has no gradient; take it out of the path from the loss to the parameters")]
    NotDifferentiable {
        /// The operator.
        op: &'static str,
    },
    /// The backward rule was asked without a gradient to start from.
    #[error("{op}: nothing depends on its output, so it has no gradient to pass on")]
    NoGradient {
        /// The operator.
        op: &'static str,
    },
    /// The device cannot run it.
    #[error("{op}: this device cannot run it: {reason}")]
    Device {
        /// The operator.
        op: &'static str,
        /// What is missing and what to do.
        reason: String,
    },
}

/// Checks the number of inputs and gives them as an array.
///
/// # Errors
/// [`OpError::InputCount`].
pub fn take<const N: usize>(op: &'static str, inputs: &[Shape]) -> Result<[Shape; N], OpError> {
    inputs.try_into().map_err(|_| OpError::InputCount {
        op,
        expected: N,
        found: inputs.len(),
    })
}

/// The two inputs of a layer and, where there is a third, its bias.
///
/// # Errors
/// [`OpError::InputCount`].
pub(super) fn with_bias(
    op: &'static str,
    inputs: &[Shape],
) -> Result<(Shape, Shape, Option<Shape>), OpError> {
    match *inputs {
        [a, b] => Ok((a, b, None)),
        [a, b, bias] => Ok((a, b, Some(bias))),
        _ => Err(OpError::InputCount {
            op,
            expected: 2,
            found: inputs.len(),
        }),
    }
}

/// Checks that an input has a shape.
///
/// # Errors
/// [`OpError::Shape`].
pub fn expect_shape(
    op: &'static str,
    what: &'static str,
    expected: Shape,
    found: Shape,
) -> Result<(), OpError> {
    if expected == found {
        return Ok(());
    }
    Err(OpError::Shape {
        op,
        what,
        expected: expected.to_string(),
        found,
    })
}
