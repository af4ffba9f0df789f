//! What an operator is: shape rule, backward rule, lowering to dispatches.

use std::fmt::Debug;
use std::sync::Arc;

use super::OpError;
use super::conv::Convolution;
use crate::gpu::{Constants, DeviceProfile, Kernel, ParamBlock, Wanted};
use crate::tensor::{Element, Shape};

/// A value of a graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ValueId(pub u32);

/// How the output of an operator lies in memory, where that needs no kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Outputs have storage of their own.
    Fresh,
    /// Output 0 is the channels from `start` on of input 0, read in place.
    SliceChannels {
        /// First channel.
        start: usize,
    },
    /// Output 0 is input 0 with other extents; N and the elements of a sample stay.
    Reshape,
    /// The inputs are produced side by side in output 0, along the channels, wherever the graph allows. The
    /// lowering copies those that are not; they then lie in another buffer than the output.
    ConcatChannels,
}

/// Floating point operations and bytes moved by one run of an operator, the least that the definition needs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating point operations; a multiply-add counts as two.
    pub flops: f64,
    /// Bytes read and written, each operand once.
    pub bytes: f64,
}

/// The kernels that can compute a node, where there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// The family, as in [`DeviceProfile::forced`].
    pub family: &'static str,
    /// Direction, window and extents: equal problems want equal kernels.
    pub problem: String,
    /// Names of the variants, the one chosen by rule first.
    pub variants: Vec<&'static str>,
}

/// An operator: a recipe with its attributes. One instance stands at one node of a graph.
pub trait Operator: Debug + Send + Sync {
    /// Family and direction, `"conv.forward"`; the key for `--profile`.
    fn name(&self) -> &'static str;

    /// The shapes of the outputs, or why the inputs do not fit.
    ///
    /// # Errors
    /// [`OpError`] with what was expected and what was found.
    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError>;

    /// How the elements of output `index` are stored, given those of the inputs. Activations and their gradients are
    /// stored as what they are made of; sums, statistics, losses and gradients of parameters keep this default.
    /// A view is stored as what it is a view of.
    fn element(&self, _index: usize, _inputs: &[Element]) -> Element {
        Element::F32
    }

    /// Appends the nodes that compute the gradients of the inputs. An operator without a gradient (losses'
    /// gradients, optimisers, metrics) keeps this default.
    ///
    /// Returns a gradient per input, `None` for those that need none ([`Backward::needs`]) or have none.
    ///
    /// # Errors
    /// [`OpError::NotDifferentiable`] by default.
    fn backward(
        &self,
        _graph: &mut dyn Build,
        _io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        Err(OpError::NotDifferentiable { op: self.name() })
    }

    /// Chooses kernels and appends their dispatches.
    ///
    /// # Errors
    /// [`OpError`] where the device cannot run it.
    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError>;

    /// Like [`Operator::lower`], for operands that are larger than the device can bind at once: part by part, each within
    /// the limit. By default it is the same, which ends as an error that names the size.
    ///
    /// # Errors
    /// As [`Operator::lower`].
    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        self.lower(to)
    }

    /// The work of one run.
    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost {
            flops: 0.0,
            bytes: 4.0
                * inputs
                    .iter()
                    .chain(outputs)
                    .map(|s| s.len() as f64)
                    .sum::<f64>(),
        }
    }

    /// How the outputs lie in memory.
    fn layout(&self) -> Layout {
        Layout::Fresh
    }

    /// The kernels that measuring may choose from, for inputs that are stored as `_elements`; `None` where there is nothing
    /// to choose.
    fn candidates(
        &self,
        _inputs: &[Shape],
        _elements: &[Element],
        _outputs: &[Shape],
        _device: &DeviceProfile,
    ) -> Option<Candidates> {
        None
    }

    /// Inputs that are updated in place (parameters by an optimiser, running statistics). Only persistent values.
    fn updates(&self) -> &[usize] {
        &[]
    }

    /// Inputs whose storage output 0 may take over where nothing reads them afterwards. The lowering then finds that
    /// operand and output 0 at one place ([`Operand::is_at`]) and must not bind it to read and to write at once.
    fn in_place(&self) -> Vec<usize> {
        Vec::new()
    }

    /// The convolution that it computes, where that has no groups: its inputs are those of [`ConvForward`], of
    /// [`ConvInputGrad`] or of [`ConvWeightGrad`], by its direction. Under a budget of memory it may then be computed in parts.
    ///
    /// [`ConvForward`]: super::conv::ConvForward
    /// [`ConvInputGrad`]: super::conv::ConvInputGrad
    /// [`ConvWeightGrad`]: super::conv::ConvWeightGrad
    fn convolution(&self) -> Option<Convolution> {
        None
    }

    /// Whether its outputs are cheaper to compute again in the backward pass than to keep.
    fn is_cheap(&self) -> bool {
        false
    }
}

/// What an operator may do to the graph it is differentiated in.
pub trait Build {
    /// Appends a node and gives its outputs.
    ///
    /// # Errors
    /// The shape error of the operator.
    fn add(&mut self, op: Arc<dyn Operator>, inputs: &[ValueId]) -> Result<Vec<ValueId>, OpError>;

    /// The shape of a value.
    fn shape(&self, value: ValueId) -> Shape;

    /// How the elements of a value are stored.
    fn element(&self, value: ValueId) -> Element;
}

/// The node that is being differentiated.
#[derive(Debug)]
pub struct Backward<'a> {
    /// Its inputs.
    pub inputs: &'a [ValueId],
    /// Its outputs.
    pub outputs: &'a [ValueId],
    /// The gradient of each output; `None` where nothing depends on it.
    pub grads: &'a [Option<ValueId>],
    /// Whether the gradient of each input is wanted.
    pub needs: &'a [bool],
}

impl Backward<'_> {
    /// The gradient of output 0.
    ///
    /// # Errors
    /// [`OpError::NoGradient`] where nothing depends on it.
    pub fn grad(&self, op: &'static str) -> Result<ValueId, OpError> {
        self.grads
            .first()
            .copied()
            .flatten()
            .ok_or(OpError::NoGradient { op })
    }
}

/// The buffer behind an operand, before memory is planned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BufferRef {
    /// The storage that the graph gave a value (its own, or that of the value it is part of).
    Value(ValueId),
    /// Scratch space of the node, by its index in [`Lowering::scratch`].
    Scratch(usize),
}

/// A tensor in memory: element (n, c, z, y, x) lies at
/// `offset + n * batch_stride + ((c * D + z) * H + y) * W + x` (elements) of what is bound of its buffer.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// The buffer.
    pub buffer: BufferRef,
    /// Extent.
    pub shape: Shape,
    /// Element of the buffer from which on it is bound; 0 unless the buffer is too large to be bound whole.
    pub base: u32,
    /// First element, counted from `base`.
    pub offset: u32,
    /// Elements from one sample to the next.
    pub batch_stride: u32,
    /// How each element is stored.
    pub element: Element,
}

impl Operand {
    /// Whether it may be bound as an array of vec4: rows of voxels, offset and stride all in fours.
    pub fn is_vec4(&self) -> bool {
        self.shape.voxels().is_multiple_of(4) && self.starts_in(4)
    }

    /// Whether every sample starts at a whole pack of so many elements.
    pub fn starts_in(&self, pack: usize) -> bool {
        let starts = [self.offset, self.batch_stride];
        starts.iter().all(|e| e.is_multiple_of(pack as u32))
    }

    /// Whether it lies where `other` lies.
    pub fn is_at(&self, other: &Self) -> bool {
        (self.buffer, self.start(), self.batch_stride)
            == (other.buffer, other.start(), other.batch_stride)
    }

    /// Its first element, counted from the start of the buffer.
    pub fn start(&self) -> usize {
        self.base as usize + self.offset as usize
    }

    /// Whether its elements lie without a gap.
    pub fn is_dense(&self) -> bool {
        self.shape.n() == 1 || self.batch_stride as usize == self.shape.per_sample()
    }
}

/// What a dispatch binds: a buffer from an element on, as far as it goes or may be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The buffer.
    pub buffer: BufferRef,
    /// First element.
    pub base: u32,
}

/// One dispatch, as plain data.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Its specialisation.
    pub constants: Constants,
    /// Its parameter block.
    pub params: Vec<u8>,
    /// Its storage buffers, from binding 1 on.
    pub buffers: Vec<Binding>,
    /// What each of them holds.
    pub elements: Vec<Element>,
    /// Workgroups along x, y, z.
    pub workgroups: [u32; 3],
}

impl Dispatch {
    /// The pipeline that it runs.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            kernel: self.kernel,
            constants: &self.constants,
            elements: &self.elements,
            all_writable: false,
        }
    }
}

/// Where an operator writes its dispatches.
#[derive(Debug)]
pub struct Lowering<'a> {
    /// The device it will run on.
    pub device: &'a DeviceProfile,
    /// Its inputs.
    pub inputs: &'a [Operand],
    /// Its outputs.
    pub outputs: &'a [Operand],
    /// Bytes of each scratch buffer asked for; alive during this node only.
    pub scratch: Vec<u64>,
    /// The dispatches so far, in order.
    pub dispatches: Vec<Dispatch>,
    /// The most bytes that a dispatch reaches of one binding.
    pub(super) widest: u64,
}

impl<'a> Lowering<'a> {
    /// An empty lowering.
    pub fn new(device: &'a DeviceProfile, inputs: &'a [Operand], outputs: &'a [Operand]) -> Self {
        Self {
            device,
            inputs,
            outputs,
            scratch: Vec::new(),
            dispatches: Vec::new(),
            widest: 0,
        }
    }

    /// Asks for scratch space of `shape` in f32, dense.
    pub fn scratch(&mut self, shape: Shape) -> Operand {
        self.scratch_as(Element::F32, shape)
    }

    /// Asks for scratch space of `shape`, dense, stored as `element`: for copies of operands, never for sums.
    pub fn scratch_as(&mut self, element: Element, shape: Shape) -> Operand {
        self.scratch.push(shape.bytes_as(element));
        Operand {
            buffer: BufferRef::Scratch(self.scratch.len() - 1),
            shape,
            base: 0,
            offset: 0,
            batch_stride: shape.per_sample() as u32,
            element,
        }
    }

    /// Appends a dispatch. `workgroups` beyond 65535 along an axis are an error at planning, so split the grid.
    pub fn dispatch<P: ParamBlock>(
        &mut self,
        kernel: &'static Kernel,
        constants: Constants,
        params: &P,
        operands: &[&Operand],
        workgroups: [u32; 3],
    ) {
        let reach = operands.iter().map(|o| o.reach()).max();
        self.widest = self.widest.max(reach.unwrap_or(0));
        let binding = |o: &&Operand| Binding {
            buffer: o.buffer,
            base: o.base,
        };
        self.dispatches.push(Dispatch {
            kernel,
            constants,
            params: bytemuck::bytes_of(params).to_vec(),
            buffers: operands.iter().map(binding).collect(),
            elements: operands.iter().map(|o| o.element).collect(),
            workgroups,
        });
    }
}

/// `count` workgroups laid out as (x, y) below the limit of 65535 an axis; the kernel rebuilds the number as
/// `workgroup_id.y * num_workgroups.x + workgroup_id.x` and guards the end.
pub fn grid(count: usize) -> [u32; 3] {
    const LIMIT: usize = 65_535;
    let y = count.div_ceil(LIMIT).max(1);
    [count.div_ceil(y) as u32, y as u32, 1]
}

/// The [`grid`] of a kernel for one invocation each of so many. Where its workgroup is a constant of the specialisation, as
/// many workgroups: too many rather than too few.
pub fn grid_of(kernel: &Kernel, invocations: usize) -> [u32; 3] {
    grid(invocations.div_ceil(kernel.workgroup().unwrap_or(1)))
}

/// The components that a kernel may load at once (its `alias Pack`): 4 where all `operands` lie in fours, else 1.
pub fn pack_width(operands: &[&Operand]) -> u32 {
    if operands.iter().all(|o| o.is_vec4()) {
        4
    } else {
        1
    }
}
