//! Nodes whose operands are larger than a device can bind at once, lowered part by part: some samples, some channels or
//! some planes at a time. A part binds the range of each buffer that it touches; what does not lie close enough together
//! for that is copied into scratch space and back.

mod channels;
mod copies;
mod elements;
mod slabs;
mod views;

pub(in crate::ops) use channels::{Samples, by_channels, channels_at_once};
pub(in crate::ops) use copies::{copy_apart, kernels};
pub(in crate::ops) use elements::{by_elements, pieces};
pub(in crate::ops) use slabs::{Slab, by_slabs, slab_axis, slab_sizes};

use super::{Lowering, OpError, Operand, Operator};

/// Bytes of a copy, at most: small beside the tensors that are cut.
const COPY_BYTES: usize = 32 << 20;

/// Lowers `op`, part by part where it would else reach further than the device can bind.
///
/// # Errors
/// Those of [`Operator::lower`]. What no part can be made small enough for is lowered nevertheless;
/// [`Lowering::reach`] tells.
pub(crate) fn lower_within_limits(op: &dyn Operator, to: &mut Lowering<'_>) -> Result<(), OpError> {
    let state = to.state();
    op.lower(to)?;
    if to.fits() {
        return Ok(());
    }
    to.restore(state);
    op.lower_parts(to)
}

/// A lowering as it was.
pub(in crate::ops) struct State {
    scratch: Vec<u64>,
    dispatches: usize,
    widest: u64,
}

impl Lowering<'_> {
    /// The most bytes of one binding that its dispatches reach.
    pub(crate) fn reach(&self) -> u64 {
        self.widest
    }

    /// Whether the device can bind all that its dispatches reach.
    pub(crate) fn fits(&self) -> bool {
        self.widest <= self.device.binding_limit()
    }

    /// Elements that an operand may reach, as f32, from where it is bound.
    fn most_elements(&self) -> usize {
        (self.device.binding_limit() / 4) as usize
    }

    pub(in crate::ops) fn state(&self) -> State {
        State {
            scratch: self.scratch.clone(),
            dispatches: self.dispatches.len(),
            widest: self.widest,
        }
    }

    pub(in crate::ops) fn restore(&mut self, state: State) {
        self.scratch = state.scratch;
        self.dispatches.truncate(state.dispatches);
        self.widest = state.widest;
    }

    /// Appends a part of the node with operands of its own. Its scratch space serves the next part as well; the first
    /// `kept` scratch buffers are the node's and stay.
    pub(in crate::ops) fn part(
        &mut self,
        kept: usize,
        inputs: &[Operand],
        outputs: &[Operand],
        lower: impl FnOnce(&mut Lowering<'_>) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let mut part = Lowering::new(self.device, inputs, outputs);
        part.scratch.extend(&self.scratch[..kept]);
        lower(&mut part)?;
        let Lowering {
            scratch,
            dispatches,
            widest,
            ..
        } = part;
        self.scratch
            .resize(self.scratch.len().max(scratch.len()), 0);
        for (own, asked) in self.scratch.iter_mut().zip(scratch) {
            *own = (*own).max(asked);
        }
        self.dispatches.extend(dispatches);
        self.widest = self.widest.max(widest);
        Ok(())
    }

    /// Appends `op` of `inputs` to `output` as a [part](Self::part) of the node.
    pub(in crate::ops) fn append(
        &mut self,
        kept: usize,
        op: &dyn Operator,
        inputs: &[Operand],
        output: Operand,
    ) -> Result<(), OpError> {
        self.part(kept, inputs, &[output], |part| op.lower(part))
    }

    /// Lowers with the first of `sizes` with which everything fits, else with the last.
    pub(in crate::ops) fn first_that_fits(
        &mut self,
        sizes: &[usize],
        lower: impl Fn(&mut Lowering<'_>, usize) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let Some((&last, others)) = sizes.split_last() else {
            return Ok(());
        };
        for &size in others {
            let state = self.state();
            lower(self, size)?;
            if self.fits() {
                return Ok(());
            }
            self.restore(state);
        }
        lower(self, last)
    }
}

/// `start`, then ever halves of it, all multiples of `unit`, down to `unit`.
pub(super) fn halves(start: usize, unit: usize) -> Vec<usize> {
    let whole = |size: usize| (size / unit * unit).max(unit);
    let mut sizes = vec![whole(start)];
    while let Some(&last) = sizes.last()
        && last > unit
    {
        sizes.push(whole(last / 2));
    }
    sizes
}
