//! Dropout (Srivastava et al. 2014), of elements or of whole channels, by a counter-based random number.

use std::sync::Arc;

use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::channels_at_once;
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape, grid_of,
    take,
};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
    first: u32,
    unit: u32,
    seed_offset: u32,
    salt: u32,
    threshold: u32,
    factor: f32,
});

static KERNEL: Kernel = shipped_kernel! {
    name: "dropout/apply",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

/// What is dropped together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropoutUnit {
    /// Each element for itself.
    Element,
    /// All voxels of a channel of a sample (Tompson et al. 2015).
    Channel,
}

/// y = x / (1 - p) with probability 1 - p, else 0; x, y (N, C, D, H, W).
///
/// Inputs: x and the seed, a scalar that holds the bits of a u32 as those of an f32 ([`seed_bits`]) and changes from step
/// to step. The mask is a function of seed, salt and element; backward draws it again.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Probability of dropping, in 0 .. 1 (1 excluded).
    pub p: f32,
    /// What is dropped together.
    pub unit: DropoutUnit,
    /// Tells the dropouts of a graph apart.
    pub salt: u32,
}

impl Dropout {
    /// Appends the dropout of elements that are numbered from `first` on.
    fn apply(&self, to: &mut Lowering<'_>, first: usize, [x, seed, y]: [&Operand; 3]) {
        let unit = match self.unit {
            DropoutUnit::Element => 1,
            DropoutUnit::Channel => x.shape.voxels(),
        };
        let params = Params {
            x_offset: x.offset,
            x_batch: x.batch_stride,
            y_offset: y.offset,
            y_batch: y.batch_stride,
            per_sample: x.shape.per_sample() as u32,
            first: first as u32,
            unit: unit as u32,
            seed_offset: seed.offset,
            salt: self.salt,
            threshold: (f64::from(self.p) * 2f64.powi(32)) as u32,
            factor: 1.0 / (1.0 - self.p),
        };
        let [gx, gy, _] = grid_of(&KERNEL, x.shape.per_sample());
        let groups = [gx, gy, x.shape.n() as u32];
        to.dispatch(&KERNEL, vec![], &params, &[x, seed, y], groups);
    }
}

const OP: &str = "dropout.apply";

/// The value of the seed input for a seed.
pub const fn seed_bits(seed: u32) -> f32 {
    f32::from_bits(seed)
}

impl Operator for Dropout {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x, seed] = take(OP, inputs)?;
        if !(0.0..1.0).contains(&self.p) {
            return Err(OpError::Attribute {
                op: OP,
                reason: format!("p must be at least 0 and less than 1, found {}", self.p),
            });
        }
        expect_shape(OP, "the seed", Shape::scalar(), seed)?;
        Ok(vec![x])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let inputs = [io.grad(OP)?, io.inputs[1]];
        let dx = graph.add(Arc::new(self.clone()), &inputs)?[0];
        Ok(vec![Some(dx), None])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, seed, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        self.apply(to, 0, [&x, &seed, &y]);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, seed, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let channels = x.shape.c();
        let together = channels_at_once(to, x.shape);
        for n in 0..x.shape.n() {
            for first in (0..channels).step_by(together) {
                let range = first..channels.min(first + together);
                let of = |o: &Operand| o.samples(n..n + 1).channels(range.clone());
                let before = (n * channels + first) * x.shape.voxels();
                self.apply(to, before, [&of(&x), &seed, &of(&y)]);
            }
        }
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: elements,
            bytes: 8.0 * elements,
        }
    }

    fn is_cheap(&self) -> bool {
        true
    }
}

/// Appends dropout of x (N, C, D, H, W); see [`Dropout`] for the seed.
///
/// # Errors
/// [`OpError::Attribute`] where p does not lie in 0 .. 1, [`OpError::Shape`] where the seed is no scalar.
pub fn dropout(
    graph: &mut dyn Build,
    x: ValueId,
    seed: ValueId,
    op: Dropout,
) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(op), &[x, seed])?[0])
}

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&KERNEL, vec![vec![]])]
}
