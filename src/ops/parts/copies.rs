//! Copies of runs of elements that lie at a distance: planes of some channels, channels of some samples.

use std::ops::Range;

use super::views::ALIGNMENT;
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand, grid};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    packs: u32,
});

static KERNEL: Kernel = shipped_kernel! {
    name: "layout/copy_runs",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// Packs that a workgroup copies, as the kernel has it.
const BLOCK: usize = 1024;

/// Runs along z of a grid.
const MOST_RUNS: usize = 65_535;

fn constants(width: u32) -> Constants {
    vec![("Pack", width)]
}

/// The kernel with the specialisations in use.
pub(in crate::ops) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&KERNEL, [1, 4].map(constants).to_vec())]
}

/// Runs of one sample: `count` of `len` elements, `stride` apart.
#[derive(Clone, Copy)]
struct Runs {
    len: usize,
    stride: usize,
    count: usize,
}

impl Runs {
    /// The planes from `range` along `axis` of each channel of `shape`, where the extents before `axis` are 1.
    fn of(shape: Shape, axis: usize, range: &Range<usize>) -> Self {
        let inner: usize = shape.spatial()[axis + 1..].iter().product();
        Self {
            len: range.len() * inner,
            stride: shape.voxels(),
            count: shape.c(),
        }
    }

    /// Without the gaps where there are none.
    fn joined(self) -> Self {
        let len = self.len * self.count;
        match self.len == self.stride {
            true => Self {
                len,
                stride: len,
                count: 1,
            },
            false => self,
        }
    }
}

/// Appends the copy of the planes from `range` along `axis` of `whole` into `part`, which has no others.
pub(super) fn take_planes(
    to: &mut Lowering<'_>,
    (whole, axis, range): (&Operand, usize, Range<usize>),
    part: &Operand,
) {
    copy(to, (whole, axis, range), part, Way::Out);
}

/// Appends the copy of `part` into the planes from `range` along `axis` of `whole`.
pub(super) fn put_planes(
    to: &mut Lowering<'_>,
    part: &Operand,
    (whole, axis, range): (&Operand, usize, Range<usize>),
) {
    copy(to, (whole, axis, range), part, Way::Back);
}

/// Appends y = x, of one shape, which may lie further apart than the device can bind.
pub(in crate::ops) fn copy_apart(to: &mut Lowering<'_>, x: &Operand, y: &Operand) {
    let axis = 0;
    let whole = (x, axis, 0..x.shape.spatial()[axis]);
    copy(to, whole, y, Way::Out);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    Back,
}

fn copy(
    to: &mut Lowering<'_>,
    (whole, axis, range): (&Operand, usize, Range<usize>),
    part: &Operand,
    way: Way,
) {
    let inner: usize = whole.shape.spatial()[axis + 1..].iter().product();
    let skipped = range.start * inner;
    let mut far = Runs::of(whole.shape, axis, &range);
    let mut near = Runs::of(part.shape, axis, &(0..range.len()));
    if far.len == far.stride {
        (far, near) = (far.joined(), near.joined());
    }
    let most = to.most_elements().saturating_sub(ALIGNMENT).max(ALIGNMENT);
    let widest = far.stride.max(near.stride);
    let together = match far.count {
        1 => 1,
        _ => (most / widest.max(1)).clamp(1, MOST_RUNS),
    };
    for n in 0..whole.shape.n() {
        for first in (0..far.count).step_by(together) {
            let count = together.min(far.count - first);
            for at in (0..far.len).step_by(most) {
                let len = most.min(far.len - at);
                let from = |operand: &Operand, runs: Runs, skipped: usize| {
                    let start = operand.start()
                        + n * operand.batch_stride as usize
                        + first * runs.stride
                        + skipped
                        + at;
                    bound(operand, start, (count - 1) * runs.stride + len)
                };
                let far_end = (from(whole, far, skipped), far.stride);
                let near_end = (from(part, near, 0), near.stride);
                match way {
                    Way::Out => dispatch(to, far_end, near_end, (len, count)),
                    Way::Back => dispatch(to, near_end, far_end, (len, count)),
                }
            }
        }
    }
}

/// `len` elements of the operand's buffer from `start` on.
fn bound(operand: &Operand, start: usize, len: usize) -> Operand {
    let run = Operand {
        shape: Shape::vector(len),
        base: 0,
        offset: start as u32,
        batch_stride: len as u32,
        ..*operand
    };
    run.rebased()
}

fn dispatch(
    to: &mut Lowering<'_>,
    (x, x_stride): (Operand, usize),
    (y, y_stride): (Operand, usize),
    (len, count): (usize, usize),
) {
    let numbers = [
        x.offset as usize,
        y.offset as usize,
        x_stride,
        y_stride,
        len,
    ];
    let width = match numbers.iter().all(|n| n.is_multiple_of(4)) {
        true => 4,
        false => 1,
    };
    let packs = |elements: usize| (elements / width) as u32;
    let params = Params {
        x_offset: packs(x.offset as usize),
        x_stride: packs(x_stride),
        y_offset: packs(y.offset as usize),
        y_stride: packs(y_stride),
        packs: packs(len),
    };
    let [gx, gy, _] = grid((len / width).div_ceil(BLOCK));
    let groups = [gx, gy, count as u32];
    to.dispatch(&KERNEL, constants(width as u32), &params, &[&x, &y], groups);
}
