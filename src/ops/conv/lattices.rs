//! Convolutions with other strides than the lanes kernels have, and those with a dilation, as convolutions that they have, on
//! adapters that are a CPU with subgroups of 8.
//!
//! Let x_r[u] = x[s * u + r] be the lattices of an image by a stride s, for each residue r < s. With k = s * j + r a
//! convolution with stride s is
//!
//!   y[p] = sum over k of w[k] x[s * p + k - padding] = sum over r, j of w_r[j] x_r[p + j - padding / s],
//!
//! one of stride 1 over s times as many channels along each axis, with windows of ceil(K / s) taps. Where s does not divide the
//! padding, as many zeros before the taps make up for the rest. Where kernel = stride it is pointwise, and the weight is what
//! it was.
//!
//! A convolution with dilation d and stride 1 takes the lattices of y from those of x, y_r[u] = sum over k of w[k] x_r[u + k -
//! padding / d]: the same window without dilation over d times as many samples along each axis.

use super::lanes;
use super::lattice_copies::{Form, Lattices};
use super::{
    ConvAttributes, ConvForward, ConvInputGrad, ConvWeightGrad, Direction, Problem,
    depthwise_strips, patches, weight_grad_lanes,
};
use crate::gpu::DeviceProfile;
use crate::ops::{Lowering, OpError, Operand, Operator};
use crate::tensor::Shape;

/// Lanes of the subgroups that the kernels behind it are made for.
const LANES: u32 = 8;

/// The convolution that is run instead.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    form: Form,
    stride: [usize; 3],
    /// Zeros before the taps of the weight.
    before: [usize; 3],
    /// The convolution on the lattices.
    inner: Problem,
}

impl Plan {
    /// The plan for `direction` of `problem`, where there are fast kernels for what it leads to on `device`.
    pub(super) fn new(
        direction: Direction,
        problem: &Problem,
        device: &DeviceProfile,
    ) -> Option<Self> {
        let is_made_for = device.is_cpu_with_lanes(LANES);
        let plan =
            is_made_for.then(|| Self::strided(problem).or_else(|| Self::dilated(problem)))??;
        let limit = device.binding_limit();
        let fits = |shape: Shape| 4 * shape.len() as u64 <= limit;
        let fits = fits(plan.inner.x) && fits(plan.inner.y) && fits(plan.weight());
        (fits && is_fast(direction, &plan.inner, device)).then_some(plan)
    }

    fn strided(problem: &Problem) -> Option<Self> {
        let a = &problem.attributes;
        let (kernel, stride) = (a.kernel, a.stride);
        let skips = (0..3).any(|i| kernel[i] < stride[i]);
        if a.groups != 1 || stride == [1; 3] || skips || dilation(a) != [1; 3] {
            return None;
        }
        let before = [0, 1, 2].map(|i| (stride[i] - a.padding[i] % stride[i]) % stride[i]);
        let taps = [0, 1, 2].map(|i| (kernel[i] + before[i]).div_ceil(stride[i]));
        let padding = [0, 1, 2].map(|i| (a.padding[i] + before[i]) / stride[i]);
        let classes = stride.iter().product::<usize>();
        let size = match taps {
            // Nothing between the windows, which may leave voxels out at the end.
            [1, 1, 1] if padding == [0; 3] => problem.y.spatial(),
            _ => split_size(problem.x, stride),
        };
        let attributes = ConvAttributes::new(taps).with_padding(padding);
        let inner = Problem {
            attributes,
            x: problem.x.with_c(problem.x.c() * classes).with_spatial(size),
            ..*problem
        };
        let work = |a: &ConvAttributes| a.taps();
        (work(&attributes) * classes <= MOST_WORK * work(a)).then_some(Self {
            form: Form::Channels,
            stride,
            before,
            inner,
        })
    }

    fn dilated(problem: &Problem) -> Option<Self> {
        let a = &problem.attributes;
        let stride = dilation(a);
        let divides = (0..3).all(|i| a.padding[i].is_multiple_of(stride[i]));
        if a.stride != [1; 3] || stride == [1; 3] || !divides {
            return None;
        }
        let classes = stride.iter().product::<usize>();
        let padding = [0, 1, 2].map(|i| a.padding[i] / stride[i]);
        let split = |shape: Shape| {
            let [n, c, ..] = shape.0;
            Shape::new(n * classes, c, 1, 1, 1).with_spatial(split_size(shape, stride))
        };
        let inner = Problem {
            attributes: a.with_dilation([1; 3]).with_padding(padding),
            x: split(problem.x),
            y: split(problem.y),
            ..*problem
        };
        Some(Self {
            form: Form::Samples,
            stride,
            before: [0; 3],
            inner,
        })
    }

    fn weight(&self) -> Shape {
        let Problem {
            attributes: a,
            x,
            y,
            ..
        } = &self.inner;
        Shape::new(y.c(), x.c() / a.groups, 1, 1, 1).with_spatial(a.kernel)
    }

    fn images(&self) -> Lattices {
        Lattices {
            form: self.form,
            stride: self.stride,
            before: [0; 3],
        }
    }

    fn weights(&self) -> Lattices {
        Lattices {
            before: self.before,
            ..self.images()
        }
    }

    /// Whether the weight of the inner convolution lies in memory as that of the outer one does.
    fn keeps_weight(&self) -> bool {
        self.form == Form::Samples
            || self.inner.attributes.kernel == [1; 3] && self.before == [0; 3]
    }

    /// `w` as the inner convolution has it, where it [keeps](Self::keeps_weight) it.
    fn kept(&self, w: &Operand) -> Operand {
        Operand {
            shape: self.weight(),
            ..*w
        }
    }

    /// Appends w, the weight, for the inner convolution.
    fn split_weight(&self, to: &mut Lowering<'_>, w: &Operand) -> Operand {
        if self.keeps_weight() {
            return self.kept(w);
        }
        let split = to.scratch_as(w.element, self.weight());
        self.weights().split(to, w, &split);
        split
    }

    /// Appends the lattices of an image, of extents `shape`.
    fn split(&self, to: &mut Lowering<'_>, image: &Operand, shape: Shape) -> Operand {
        let split = to.scratch_as(image.element, shape);
        self.images().split(to, image, &split);
        split
    }
}

/// Multiply-adds with the zeros among the taps, of those without, that are worth it.
const MOST_WORK: usize = 2;

/// The dilation along axes on which there is more than one tap.
fn dilation(a: &ConvAttributes) -> [usize; 3] {
    [0, 1, 2].map(|i| if a.kernel[i] > 1 { a.dilation[i] } else { 1 })
}

/// Extents of each lattice; rows are filled up to whole vec4, with what counts as zeros beyond the border.
fn split_size(shape: Shape, stride: [usize; 3]) -> [usize; 3] {
    let [d, h, w] = [0, 1, 2].map(|i| shape.spatial()[i].div_ceil(stride[i]));
    [d, h, w.next_multiple_of(4)]
}

/// Whether there are kernels for `problem` that are made for a CPU.
fn is_fast(direction: Direction, problem: &Problem, device: &DeviceProfile) -> bool {
    let has_lanes = match direction {
        Direction::WeightGrad => weight_grad_lanes::Plan::new(problem, device).is_some(),
        Direction::Forward | Direction::InputGrad => {
            lanes::Plan::new(direction, problem, device).is_some()
        }
    };
    has_lanes
        || patches::supports(direction, problem, device)
        || depthwise_strips::Tiling::of(direction, problem, device).is_some()
}

/// Appends target = the forward convolution or the input gradient of `source`, + bias.
///
/// # Errors
/// Those of the convolution on the lattices.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    direction: Direction,
    plan: &Plan,
    [source, w, target]: [&Operand; 3],
    bias: Option<&Operand>,
) -> Result<(), OpError> {
    let attributes = plan.inner.attributes;
    let w = plan.split_weight(to, w);
    let backwards = direction == Direction::InputGrad;
    let (of_source, of_target) = match backwards {
        true => (plan.inner.y, plan.inner.x),
        false => (plan.inner.x, plan.inner.y),
    };
    let op: Box<dyn Operator> = match backwards {
        true => Box::new(ConvInputGrad {
            attributes,
            input_size: of_target.spatial(),
        }),
        false => Box::new(ConvForward { attributes }),
    };
    // With a stride y stays as it is.
    let is_split = |is_y: bool| plan.form == Form::Samples || !is_y;
    let source = match is_split(backwards) {
        true => plan.split(to, source, of_source),
        false => *source,
    };
    let mut inputs = vec![source, w];
    if !is_split(!backwards) {
        inputs.extend(bias);
        return to.append(to.scratch.len(), op.as_ref(), &inputs, *target);
    }
    let split = to.scratch_as(target.element, of_target);
    to.append(to.scratch.len(), op.as_ref(), &inputs, split)?;
    plan.images().join(to, &split, target, bias);
    Ok(())
}

/// Appends dw = d(conv)/dw applied to dy; `operands` are x, dy and dw.
///
/// # Errors
/// Those of the convolution on the lattices.
pub(super) fn weight_grad(
    to: &mut Lowering<'_>,
    plan: &Plan,
    [x, dy, dw]: [&Operand; 3],
) -> Result<(), OpError> {
    let x = plan.split(to, x, plan.inner.x);
    let dy = match plan.form {
        Form::Channels => *dy,
        Form::Samples => plan.split(to, dy, plan.inner.y),
    };
    let attributes = plan.inner.attributes;
    let op = ConvWeightGrad { attributes };
    if plan.keeps_weight() {
        return to.append(to.scratch.len(), &op, &[x, dy], plan.kept(dw));
    }
    let split = to.scratch(plan.weight());
    to.append(to.scratch.len(), &op, &[x, dy], split)?;
    plan.weights().join(to, &split, dw, None);
    Ok(())
}
