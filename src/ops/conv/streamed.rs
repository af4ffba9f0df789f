//! A convolution that keeps the extents, computed slab by slab: so that it may write its output over its source, and a part of its
//! source that a transposed convolution makes need never be there as a whole.
//!
//! For each slab of the target, the planes that its windows see are copied into scratch space, the same kernels run there, and
//! the slab is copied into its place. Where that is the place of a source, the planes of the next slab are fetched first: by the time
//! a plane is written over, all that see it have it in their copies.

use std::ops::Range;

use super::parts::{Seen, reached, windows};
use super::{ConvAttributes, Direction, Problem, correlation};
use crate::gpu::DeviceProfile;
use crate::ops::parts::{Slab, slab_axis};
use crate::ops::{Cost, Lowering, OpError, Operand, Operator};
use crate::tensor::{Element, Shape};

/// A convolution without groups, as a node's operator describes itself ([`Operator::convolution`]).
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// What the node computes of it.
    pub direction: Direction,
    /// The window.
    pub attributes: ConvAttributes,
    /// Channels of the target whose kernels it shares, where it has some of them only.
    pub channels: Option<usize>,
}

impl Convolution {
    /// The convolution, where it has no groups.
    pub(super) fn without_groups(direction: Direction, attributes: ConvAttributes) -> Option<Self> {
        (attributes.groups == 1).then_some(Self {
            direction,
            attributes,
            channels: None,
        })
    }

    /// The problem of leading from `source` to `target`.
    fn problem(&self, source: Shape, target: Shape) -> Problem {
        let (x, y) = match self.direction {
            Direction::InputGrad => (target, source),
            Direction::Forward | Direction::WeightGrad => (source, target),
        };
        Problem {
            attributes: self.attributes,
            x,
            y,
            stored: Some(Element::F32),
        }
    }

    /// The problem that decides on the kernels.
    fn whole(&self, source: Shape, target: Shape) -> Problem {
        self.problem(source, target.with_c(self.channels.unwrap_or(target.c())))
    }

    /// What the planes `range` of the target see of the source.
    fn seen(&self, axis: usize, range: &Range<usize>, source: Shape) -> Seen {
        match self.direction {
            Direction::InputGrad => reached(&self.attributes, axis, range, source),
            Direction::Forward | Direction::WeightGrad => {
                windows(&self.attributes, axis, range, source)
            }
        }
    }
}

/// Some channels of the source.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// (N, C, D, H, W).
    pub shape: Shape,
    /// The transposed convolution that makes it slab by slab, and the shape of what it is made of; the inputs of the node are
    /// those of this convolution then, else the piece itself.
    pub made: Option<(Convolution, Shape)>,
    /// Inputs of the node that belong to it.
    pub inputs: usize,
}

/// y (N, C_out, D, H, W) from its pieces, side by side along the channels, then w and perhaps a bias.
#[derive(Debug)]
pub struct Streamed {
    conv: Convolution,
    pieces: Vec<Piece>,
    source: Shape,
    target: Shape,
    axis: usize,
    /// Planes of the target in a slab.
    size: usize,
}

/// Slabs of a tensor, at most: copies of a sixteenth cost little memory, and few dispatches.
const SLABS: usize = 16;

/// Slabs begin at multiples of so many planes, where tiles of the kernels for the whole begin too.
const UNIT: usize = 4;

impl Streamed {
    /// `conv` slab by slab for `device`, where that is of use and the kernels that compute the whole can compute each slab.
    /// All tensors are stored as `element`. What the device cannot bind at once is computed in parts of another kind.
    pub fn new(
        conv: Convolution,
        pieces: Vec<Piece>,
        target: Shape,
        element: Element,
        device: &DeviceProfile,
    ) -> Option<Self> {
        let channels = pieces.iter().map(|p| p.shape.c()).sum();
        let source = pieces.first()?.shape.with_c(channels);
        let axis = slab_axis(target);
        let planes = target.spatial()[axis];
        let streamed = Self {
            conv,
            pieces,
            source,
            target,
            axis,
            size: planes.div_ceil(SLABS).next_multiple_of(UNIT),
        };
        let keeps_extents = source.spatial() == target.spatial();
        let correlates = conv.direction != Direction::WeightGrad;
        let mut tensors = [source, target].into_iter();
        let is_bound = tensors.all(|s| s.bytes_as(element) <= device.binding_limit());
        let is_usual = keeps_extents && correlates && is_bound;
        let fits = is_usual && planes > 2 * streamed.size;
        (fits && streamed.is_able(element, device)).then_some(streamed)
    }

    /// Whether no slab sees planes before the one before it, and there are kernels for all.
    fn is_able(&self, element: Element, device: &DeviceProfile) -> bool {
        // All slabs but the first and the last few are alike.
        let mut able: Vec<[Problem; 2]> = Vec::new();
        let mut is_able = |conv: &Convolution, [source, target]: [Shape; 2], slab: &Part| {
            let (whole, part) = slab.problems(conv, source, target);
            let problems = [whole, part].map(|p| p.stored_alike([element; 2]));
            let is_known = able.contains(&problems);
            able.extend((!is_known).then_some(problems));
            let [whole, part] = &problems;
            is_known
                || correlation::alike(conv.direction, [whole, part], device, self.name()).is_ok()
        };
        self.slabs().all(|range| {
            let slab = self.part(&self.conv, self.source, range.clone());
            let is_near = slab.seen.range.start + self.size >= range.start;
            let mut made = self.pieces.iter().filter_map(|p| Some((p, p.made?)));
            is_near
                && is_able(&self.conv, [self.source, self.target], &slab)
                && made.all(|(piece, (conv, source))| {
                    let range = self.made_range(&conv, &slab.seen.range);
                    is_able(
                        &conv,
                        [source, piece.shape],
                        &self.part(&conv, source, range),
                    )
                })
        })
    }

    fn slabs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let planes = self.target.spatial()[self.axis];
        let first = (0..planes).step_by(self.size);
        first.map(move |first| first..planes.min(first + self.size))
    }

    fn part(&self, conv: &Convolution, source: Shape, range: Range<usize>) -> Part {
        Part {
            axis: self.axis,
            seen: conv.seen(self.axis, &range, source),
            range,
        }
    }

    /// The planes of a piece that are made where `wanted` are needed: from where a window begins to where one ends.
    fn made_range(&self, conv: &Convolution, wanted: &Range<usize>) -> Range<usize> {
        let stride = conv.attributes.stride[self.axis];
        let planes = self.source.spatial()[self.axis];
        let end = wanted.end.next_multiple_of(stride).min(planes);
        wanted.start / stride * stride..end
    }

    /// The inputs that are pieces themselves.
    fn whole_inputs(&self) -> impl Iterator<Item = usize> + '_ {
        let pieces = self.pieces.iter().scan(0, |input, piece| {
            let first = *input;
            *input += piece.inputs;
            Some((first, piece))
        });
        pieces.filter(|(_, p)| p.made.is_none()).map(|(i, _)| i)
    }

    fn is_plain(&self, to: &Lowering<'_>) -> bool {
        let mut sources = self.whole_inputs();
        let is_taken = sources.any(|i| to.inputs[i].is_at(&to.outputs[0]));
        !is_taken && self.pieces.len() == 1 && self.pieces[0].made.is_none()
    }

    fn lower_slabs(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (inputs, target) = (to.inputs, to.outputs[0]);
        let is_taken = self.whole_inputs().any(|i| inputs[i].is_at(&target));
        let parts: Vec<Part> = self
            .slabs()
            .map(|range| self.part(&self.conv, self.source, range))
            .collect();
        let longest = parts.iter().map(|p| p.seen.range.len()).max().unwrap_or(0);
        let space = self.planes(self.source, longest);
        let sources: Vec<Operand> = (0..=usize::from(is_taken))
            .map(|_| to.scratch_as(target.element, space))
            .collect();
        let result = to.scratch_as(target.element, self.planes(self.target, self.size));
        let kept = to.scratch.len();
        let of = |number: usize, part: &Part| {
            let shape = self.planes(self.source, part.seen.range.len());
            dense(&sources[number % sources.len()], shape)
        };
        // How many slabs are fetched before one is written.
        let ahead = sources.len() - 1;
        for number in 0..parts.len() + ahead {
            if let Some(part) = parts.get(number) {
                self.fetch(to, kept, part, &of(number, part))?;
            }
            let Some(number) = number.checked_sub(ahead) else {
                continue;
            };
            let part = &parts[number];
            let (source, own) = (of(number, part), &inputs[self.own_inputs()..]);
            let result = dense(&result, self.planes(self.target, part.range.len()));
            let operands = [&[source], own].concat();
            let (whole, problem) = part.problems(&self.conv, self.source, self.target);
            let direction = self.conv.direction;
            to.part(kept, &operands, &[result], |to| {
                correlation::lower_part(to, direction, self.name(), [&whole, &problem])
            })?;
            part.slab(&target, &part.range).put(to, &result);
        }
        Ok(())
    }

    /// Appends the copy of what `part` sees of all pieces into `space`.
    fn fetch(
        &self,
        to: &mut Lowering<'_>,
        kept: usize,
        part: &Part,
        space: &Operand,
    ) -> Result<(), OpError> {
        let (mut channel, mut input) = (0, 0);
        for piece in &self.pieces {
            let channels = channel..channel + piece.shape.c();
            let inputs = &to.inputs[input..input + piece.inputs];
            (channel, input) = (channels.end, input + piece.inputs);
            let place = space.channels(channels);
            let wanted = &part.seen.range;
            match &piece.made {
                None => part.slab(&inputs[0], wanted).fill(to, &place),
                Some((conv, source)) => {
                    let range = self.made_range(conv, wanted);
                    let made = self.part(conv, *source, range.clone());
                    to.part(kept, &[], &[], |to| {
                        let from = made.slab(&inputs[0], &made.seen.range).taken(to);
                        let shape = self.planes(piece.shape, range.len());
                        let result = to.scratch_as(place.element, shape);
                        let operands = [&[from], &inputs[1..]].concat();
                        let (whole, problem) = made.problems(conv, *source, piece.shape);
                        let (kept, direction) = (to.scratch.len(), conv.direction);
                        to.part(kept, &operands, &[result], |to| {
                            correlation::lower_part(to, direction, self.name(), [&whole, &problem])
                        })?;
                        let inner = wanted.start - range.start..wanted.end - range.start;
                        made.slab(&result, &inner).fill(to, &place);
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Where the inputs of the convolution itself begin.
    fn own_inputs(&self) -> usize {
        self.pieces.iter().map(|p| p.inputs).sum()
    }

    fn planes(&self, shape: Shape, planes: usize) -> Shape {
        with_planes(shape, self.axis, planes)
    }
}

/// Some planes of a target and what they see of its source.
struct Part {
    axis: usize,
    range: Range<usize>,
    seen: Seen,
}

impl Part {
    /// The problem that leads from all of `source` to all of `target`, and that of this part.
    fn problems(&self, conv: &Convolution, source: Shape, target: Shape) -> (Problem, Problem) {
        let of_part = Convolution {
            attributes: self.seen.attributes,
            ..*conv
        };
        let seen = with_planes(source, self.axis, self.seen.range.len());
        let range = with_planes(target, self.axis, self.range.len());
        (conv.whole(source, target), of_part.problem(seen, range))
    }

    fn slab<'a>(&self, whole: &'a Operand, range: &Range<usize>) -> Slab<'a> {
        Slab {
            whole,
            axis: self.axis,
            range: range.clone(),
        }
    }
}

fn with_planes(shape: Shape, axis: usize, planes: usize) -> Shape {
    let mut spatial = shape.spatial();
    spatial[axis] = planes;
    shape.with_spatial(spatial)
}

/// A dense tensor of `shape` at the beginning of `space`.
fn dense(space: &Operand, shape: Shape) -> Operand {
    Operand {
        shape,
        batch_stride: shape.per_sample() as u32,
        ..*space
    }
}

impl Operator for Streamed {
    fn name(&self) -> &'static str {
        match self.conv.direction {
            Direction::Forward => "conv.forward",
            Direction::InputGrad => "conv.input_grad",
            Direction::WeightGrad => "conv.weight_grad",
        }
    }

    fn infer(&self, _inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        Ok(vec![self.target])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        if !self.is_plain(to) {
            return self.lower_slabs(to);
        }
        let problem = self.conv.problem(self.source, self.target);
        let whole = self.conv.whole(self.source, self.target);
        correlation::lower_part(to, self.conv.direction, self.name(), [&whole, &problem])
    }

    /// Tensors that the device can bind may lie among others that reach further; copies of their planes do not.
    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        self.lower_slabs(to)
    }

    fn cost(&self, _inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let own = self.conv.problem(self.source, self.target).cost();
        let made = self.pieces.iter().filter_map(|piece| {
            let (conv, source) = piece.made?;
            Some(conv.problem(source, piece.shape).cost())
        });
        made.fold(own, |sum, cost| Cost {
            flops: sum.flops + cost.flops,
            bytes: sum.bytes + cost.bytes,
        })
    }

    fn in_place(&self) -> Vec<usize> {
        self.whole_inputs().collect()
    }
}
