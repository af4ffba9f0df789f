//! Two operators that show what an adapter can do at best: multiply-adds in registers, and a copy.

use voxseg::gpu::{Access, AdapterClass, Constants, DeviceProfile, Kernel, ParamBlock};
use voxseg::ops::{Cost, Lowering, OpError, Operator, grid, take};
use voxseg::param_block;
use voxseg::tensor::Shape;

param_block!(Params {
    x_offset: u32,
    y_offset: u32,
    count: u32,
});

static FMA: Kernel = Kernel::new(
    "bench/fma",
    include_str!("../../shaders/bench/fma.wgsl"),
    Params::FIELDS,
    &[Access::Read, Access::Write],
);

static COPY: Kernel = Kernel::new(
    "bench/copy",
    include_str!("../../shaders/bench/copy.wgsl"),
    Params::FIELDS,
    &[Access::Read, Access::Write],
);

/// The kernels of the benchmarks, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&FMA, vec![vec![]]), (&COPY, vec![vec![]])]
}

const GROUP: usize = 256;
/// Multiply-adds of one invocation of `bench/fma`: rounds, chains, and their unrolling.
const MULTIPLY_ADDS: usize = 512 * 8 * 4;
/// Packs that one invocation of `bench/copy` moves.
const STEPS: usize = 8;

/// `invocations` invocations of nothing but multiply-adds; x a scalar, y (1, invocations, 1, 1, 1).
#[derive(Debug)]
pub struct FmaPeak {
    pub invocations: usize,
}

impl FmaPeak {
    /// Enough to keep the device busy for some tens of milliseconds.
    pub fn for_device(device: &DeviceProfile) -> Self {
        let groups = match device.class {
            AdapterClass::CpuLike => 256,
            AdapterClass::Gpu => 65_536,
        };
        Self {
            invocations: groups * GROUP,
        }
    }
}

impl Operator for FmaPeak {
    fn name(&self) -> &'static str {
        "bench.fma"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        take::<1>(self.name(), inputs)?;
        Ok(vec![Shape::vector(self.invocations)])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        let params = Params {
            x_offset: x.offset,
            y_offset: y.offset,
            count: self.invocations as u32,
        };
        let groups = grid(self.invocations.div_ceil(GROUP));
        to.dispatch(&FMA, vec![], &params, &[&x, &y], groups);
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost {
            flops: 2.0 * (self.invocations * MULTIPLY_ADDS) as f64,
            bytes: 4.0 * (inputs[0].len() + outputs[0].len()) as f64,
        }
    }
}

/// y = x, both (1, C, 1, 1, 1) with C a multiple of 4.
#[derive(Debug)]
pub struct CopyPeak;

impl Operator for CopyPeak {
    fn name(&self) -> &'static str {
        "bench.copy"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(self.name(), inputs)?;
        Ok(vec![x])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        let packs = x.shape.len() / 4;
        let params = Params {
            x_offset: x.offset / 4,
            y_offset: y.offset / 4,
            count: packs as u32,
        };
        let groups = grid(packs.div_ceil(GROUP * STEPS));
        to.dispatch(&COPY, vec![], &params, &[&x, &y], groups);
        Ok(())
    }
}
