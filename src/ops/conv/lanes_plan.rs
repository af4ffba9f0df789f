//! The cross-correlation that the lanes kernel runs, and the shapes around it.

use super::super::{Direction, Problem};
use super::copies;
use crate::gpu::{Constants, DeviceProfile};
use crate::ops::Operand;
use crate::tensor::Shape;

/// Lanes of a subgroup, each an output channel.
pub(super) const LANES: usize = 8;

/// Windows in the plane (taps, stride; H, W) that have a specialisation: what the U-Net family uses, forward and
/// backward, and what strides leave on lattices. Along D a window may be anything, as it is walked plane by plane.
const WINDOWS: [([usize; 2], [usize; 2]); 8] = [
    ([3, 3], [1, 1]),
    ([3, 3], [2, 2]),
    ([2, 2], [1, 1]),
    ([2, 2], [2, 2]),
    ([5, 5], [1, 1]),
    ([1, 1], [2, 2]),
    ([4, 4], [1, 1]),
    ([7, 7], [1, 1]),
];

/// Windows in the plane (taps H, W) of two parity classes of columns at once, and the taps of the row that the even class
/// lacks: the input gradients of 3x3 and of 2x2 with stride 2.
const PAIRED: [([usize; 2], usize); 3] = [([1, 2], 1), ([2, 2], 1), ([1, 1], 0)];

/// Register tiles (D, H, W) of a window: flat ones for large planes, cubes where a flat one would overhang; a long one has
/// less halo along W where whole vec4 are all that can be loaded.
const LONG: [usize; 3] = [1, 4, 16];
const FLAT: [usize; 3] = [1, 8, 8];
const CUBE: [usize; 3] = [4, 4, 4];

/// The tile of windows of more rows than [`FEW_ROWS`], whose text would else not fit the instruction cache.
const SMALL: [usize; 3] = [1, 4, 8];
const FEW_ROWS: usize = 5;

/// The register tiles for a window of so many rows, for a source in a padded copy or for one that is read where it lies; the
/// most wanted first.
const fn tiles_of(rows: usize, is_guarded: bool) -> &'static [[usize; 3]] {
    match (rows > FEW_ROWS, is_guarded) {
        (true, _) => &[SMALL],
        (false, true) => &[LONG, FLAT, CUBE],
        (false, false) => &[FLAT, CUBE],
    }
}

/// Zeros before a row of so many taps that a source read where it lies may have.
const fn usual_padding(taps: usize) -> [usize; 3] {
    [0, (taps - 1) / 2, taps / 2]
}

/// The tile of a pointwise convolution, which sees a sample as one row.
const ROW: [usize; 3] = [1, 1, 64];

/// Channels of the source that a window of one tap takes a step.
const CHANNELS: usize = 4;

/// The first of `tiles` that covers `size` with the fewest voxels.
fn tile_for(tiles: &[[usize; 3]], size: [usize; 3]) -> [usize; 3] {
    let covered = |tile: &[usize; 3]| -> usize {
        (0..3).map(|i| size[i].next_multiple_of(tile[i])).product()
    };
    let best = tiles.iter().copied().min_by_key(covered);
    best.unwrap_or(FLAT)
}

/// The copies are cut into slabs of about so many bytes, but into few of them: they overlap by their halo.
const SLAB_BYTES: usize = 8 << 20;
const MAX_SLABS: usize = 4;

/// How the kernel reads its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// From a copy with zeros around it.
    Copy,
    /// Where it lies: nothing but itself is read.
    InPlace,
    /// Where it lies, in rows of whole vec4, with zeros for what is outside.
    Guarded,
}

/// The cross-correlation that is run.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops::conv) struct Plan {
    pub(super) taps: [usize; 3],
    pub(super) stride: [usize; 3],
    /// Zeros before the source.
    pub(super) padding: [usize; 3],
    /// Parity classes of the target, each of extents `size`.
    pub(super) classes: [usize; 3],
    /// Classes of columns that a lane computes together, 1 or 2; `classes` counts those apart.
    pub(super) pair: usize,
    pub(super) size: [usize; 3],
    pub(super) target: [usize; 3],
    pub(super) source: Shape,
    pub(super) channels_out: usize,
    /// Tap of w for tap j of class r: first + r + step * j.
    pub(super) first: [i32; 3],
    pub(super) step: [i32; 3],
    pub(super) kernel: [usize; 3],
    pub(super) tile: [usize; 3],
    /// Channels of the source in one step.
    pub(super) channels: usize,
    pub(super) reads: Reads,
}

impl Plan {
    /// The plan for a problem, where the lanes kernel can run it on this device.
    pub(in crate::ops::conv) fn new(
        direction: Direction,
        problem: &Problem,
        device: &DeviceProfile,
    ) -> Option<Self> {
        let is_made_for = device.is_cpu_with_lanes(LANES as u32);
        let plan = is_made_for.then(|| Self::of(direction, problem))??;
        // Cut into parts, it is at least a plane of the target with all of the source's channels.
        let mut plane = plan;
        plane.size[0] = 1;
        let least = plan.packed_len().max(plane.padded().len());
        (4 * least as u64 <= device.binding_limit()).then_some(plan)
    }

    fn of(direction: Direction, problem: &Problem) -> Option<Self> {
        let a = &problem.attributes;
        let dilated = (0..3).any(|i| a.kernel[i] > 1 && a.dilation[i] > 1);
        if a.groups != 1 || dilated {
            return None;
        }
        let mut plan = Self {
            taps: a.kernel,
            stride: a.stride,
            padding: a.padding,
            classes: [1; 3],
            pair: 1,
            size: problem.y.spatial(),
            target: problem.y.spatial(),
            source: problem.x,
            channels_out: problem.y.c(),
            first: [0; 3],
            step: [1; 3],
            kernel: a.kernel,
            tile: FLAT,
            channels: 1,
            reads: Reads::Copy,
        };
        match direction {
            Direction::Forward => {}
            Direction::InputGrad => plan.transpose(problem)?,
            Direction::WeightGrad => return None,
        }
        if !copies::STRIDES.contains(&plan.classes) {
            return None;
        }
        if plan.classes[2] == 2 && plan.with_pairs().is_some() {
            return plan.with_pairs();
        }
        if plan.is_pointwise() {
            (plan.tile, plan.channels) = (ROW, CHANNELS);
            return Some(plan);
        }
        let ([_, kh, kw], [_, sh, sw]) = (plan.taps, plan.stride);
        plan.tile = tile_for(tiles_of(kh, false), plan.size);
        WINDOWS.contains(&([kh, kw], [sh, sw])).then_some(plan)
    }

    fn transpose(&mut self, problem: &Problem) -> Option<()> {
        let a = &problem.attributes;
        self.source = problem.y;
        self.channels_out = problem.x.c();
        self.target = problem.x.spatial();
        self.classes = a.stride;
        self.stride = [1; 3];
        for i in 0..3 {
            let [p, k, s] = [a.padding[i], a.kernel[i], a.stride[i]].map(|e| e as i32);
            let lowest = -(k - 1 - p).div_euclid(s);
            let highest = (s - 1 + p).div_euclid(s);
            self.padding[i] = usize::try_from(-lowest).ok()?;
            self.taps[i] = usize::try_from(highest - lowest + 1).ok()?;
            self.first[i] = p - s * lowest;
            self.step[i] = -s;
            self.size[i] = problem.x.spatial()[i].div_ceil(a.stride[i]);
        }
        Some(())
    }

    /// This plan of two classes along W with both in a lane, where there are kernels for the windows of all others.
    fn with_pairs(&self) -> Option<Self> {
        let plan = Self {
            pair: 2,
            tile: tile_for(tiles_of(self.taps[1], false), self.size),
            channels: if self.taps[2] == 1 { CHANNELS } else { 1 },
            ..*self
        };
        let has_kernel = |(_, class): &([usize; 2], Self)| {
            PAIRED.contains(&([class.taps[1], class.taps[2]], class.skip()))
        };
        plan.row_classes().iter().all(has_kernel).then_some(plan)
    }

    /// Whether tap `j` of class `r` along `axis` is one of a kernel of extent `kernel`.
    fn reaches(&self, axis: usize, r: usize, j: usize) -> bool {
        let tap = self.first[axis] + r as i32 + self.step[axis] * j as i32;
        (0..self.kernel[axis] as i32).contains(&tap)
    }

    /// Taps of a row that the even class of a pair lacks at its end.
    fn skip(&self) -> usize {
        usize::from(self.pair == 2 && self.taps[2] == 2 && !self.reaches(2, 0, 1))
    }

    /// The classes (D, H) of a plan with pairs, each as a plan with no more taps than it has.
    fn row_classes(&self) -> Vec<([usize; 2], Self)> {
        let [depth, height, _] = self.classes;
        let class = |r: [usize; 2]| {
            let mut class = *self;
            class.classes = [1; 3];
            for (axis, r) in r.into_iter().enumerate() {
                let last = (0..self.taps[axis]).rfind(|&j| self.reaches(axis, r, j));
                class.taps[axis] = last.map_or(1, |j| j + 1);
                class.first[axis] += r as i32;
                class.size[axis] =
                    (self.target[axis].saturating_sub(r)).div_ceil(self.classes[axis]);
            }
            (r, class)
        };
        (0..depth)
            .flat_map(|z| (0..height).map(move |y| [z, y]))
            .map(class)
            .collect()
    }

    pub(super) fn is_pointwise(&self) -> bool {
        self.taps == [1; 3] && self.stride == [1; 3] && self.pair == 1
    }

    /// Blocks of 8 output channels a lane.
    pub(super) fn blocks(&self) -> usize {
        if self.channels_out <= LANES { 1 } else { 2 }
    }

    pub(super) fn blocks_out(&self) -> usize {
        self.channels_out.div_ceil(LANES * self.blocks())
    }

    /// Number of classes that the kernel writes side by side.
    pub(in crate::ops::conv) fn class_count(&self) -> usize {
        self.classes_apart().iter().product()
    }

    pub(super) fn channel_steps(&self) -> usize {
        self.source.c().div_ceil(self.channels)
    }

    pub(super) fn tiles(&self) -> [usize; 3] {
        [0, 1, 2].map(|i| self.size[i].div_ceil(self.tile[i]))
    }

    /// The padded copy of one sample of the source, rows of whole vec4.
    pub(super) fn padded(&self) -> Shape {
        let channels = self.channel_steps() * self.channels;
        if self.is_pointwise() {
            let [d, h, w] = self.size;
            return Shape::new(1, channels, d, h, w.next_multiple_of(4));
        }
        let (tiles, tile) = (self.tiles(), self.tile);
        let extent = |i: usize| (tiles[i] * tile[i] - 1) * self.stride[i] + self.taps[i];
        let last = (tiles[2] - 1) * tile[2] * self.stride[2];
        let row = (tile[2] - 1) * self.stride[2] + self.taps[2];
        Shape::new(
            1,
            channels,
            extent(0),
            extent(1),
            last + row.next_multiple_of(4),
        )
    }

    /// Zeros before the copy of the source (D; H, W) that the planes of the target from `first` on see: less than none
    /// along D where that starts behind the border.
    pub(super) fn padding_from(&self, first: usize) -> (isize, [usize; 2]) {
        let [d, h, w] = self.padding;
        (d as isize - (first * self.stride[0]) as isize, [h, w])
    }

    /// The dispatches of a slab: the first plane and row of each in the target, and its plan.
    pub(super) fn dispatches(&self) -> Vec<([usize; 2], Self)> {
        match self.pair {
            1 => vec![([0; 2], *self)],
            _ => self.row_classes(),
        }
    }

    /// This plan with the way to read `source`, and the tile for it.
    pub(super) fn reading(self, source: &Operand) -> Self {
        let (reads, tile) = if source.is_vec4() && self.stays_inside() {
            (Reads::InPlace, self.tile)
        } else if source.is_vec4() && self.is_guardable() {
            let tiles = tiles_of(self.taps[1], true);
            (Reads::Guarded, tile_for(tiles, self.size))
        } else {
            (Reads::Copy, self.tile)
        };
        Self {
            reads,
            tile,
            ..self
        }
    }

    /// Whether there is no halo, and no tile or step goes beyond the source's end.
    fn stays_inside(&self) -> bool {
        let [d, h, w] = self.source.spatial();
        let [tile_d, tile_h, _] = self.tile;
        let whole_tiles = match self.pair {
            1 => self.is_pointwise() && [d, h, w] == self.size,
            _ => {
                let without_halo = self.taps == [1; 3] && self.padding == [0; 3];
                let whole = d.is_multiple_of(tile_d) && h.is_multiple_of(tile_h);
                without_halo && whole && w.is_multiple_of(4)
            }
        };
        whole_tiles && self.source.c().is_multiple_of(self.channels)
    }

    /// Whether there is a kernel that guards its loads from a source in rows of whole vec4.
    fn is_guardable(&self) -> bool {
        let before = self.padding[2];
        let is_usual =
            before == 0 || self.pair == 1 && usual_padding(self.taps[2]).contains(&before);
        let in_fours = self.source.spatial()[2].is_multiple_of(4);
        in_fours && is_usual && self.channels == 1
    }

    /// Columns of the first vec4 of a tile's row before its window.
    pub(super) fn shift(&self) -> usize {
        match self.reads {
            Reads::Guarded => shift(self.padding[2]),
            Reads::Copy | Reads::InPlace => 0,
        }
    }

    /// Whether it sees source and target as one row each.
    fn is_one_row(&self) -> bool {
        self.is_pointwise() && self.reads == Reads::InPlace
    }

    /// Whether the kernel may write `target` where it lies.
    pub(super) fn writes_in_place(&self, target: &Operand) -> bool {
        let whole_rows = self.target[2].is_multiple_of(4) || self.is_one_row();
        self.class_count() == 1 && whole_rows && target.is_vec4()
    }

    /// Classes that the kernel writes side by side.
    pub(super) fn classes_apart(&self) -> [usize; 3] {
        match self.pair {
            1 => self.classes,
            _ => [1; 3],
        }
    }

    /// The target of one sample as the kernel writes it where it may not do so in place: rows of whole vec4, classes that it
    /// does not compute in pairs side by side.
    pub(super) fn apart(&self) -> Shape {
        let [d, h, w] = match self.pair {
            1 => self.size,
            _ => [
                self.size[0] * self.classes[0],
                self.target[1],
                self.target[2],
            ],
        };
        let w = match self.is_one_row() {
            true => w,
            false => w.next_multiple_of(4),
        };
        Shape::new(self.class_count(), self.channels_out, d, h, w)
    }

    /// This plan cut along D, so that not all of what is copied to read or to write it is there at once, nor more than `limit`
    /// bytes of a copy where that can be: the first plane of each slab in the target, and its plan.
    pub(super) fn slabs(&self, writes_in_place: bool, limit: u64) -> Vec<(usize, Self)> {
        let copies = [
            (self.reads == Reads::Copy).then(|| self.padded().len()),
            (!writes_in_place).then(|| self.apart().len()),
        ];
        let copied = copies.into_iter().flatten().max();
        let Some(copied) = copied.filter(|_| self.can_be_cut(writes_in_place)) else {
            return vec![(0, *self)];
        };
        let bytes = 4 * copied;
        let count = bytes
            .div_ceil(SLAB_BYTES)
            .min(MAX_SLABS)
            .max(bytes.div_ceil(limit as usize));
        let depth = self.size[0];
        let planes = match self.is_pointwise() {
            true => depth.div_ceil(count),
            false => depth.div_ceil(count).next_multiple_of(self.tile[0]),
        };
        (0..depth)
            .step_by(planes)
            .map(|first| {
                let mut slab = *self;
                slab.size[0] = planes.min(depth - first);
                (first, slab)
            })
            .collect()
    }

    /// A sample in one row is cut between whole vec4, and not where the whole target is written as one.
    fn can_be_cut(&self, writes_in_place: bool) -> bool {
        let [_, h, w] = self.size;
        let has_whole_planes = !self.is_one_row() || (h * w).is_multiple_of(4);
        !self.is_pointwise() || (!writes_in_place && has_whole_planes)
    }

    pub(super) fn packed_len(&self) -> usize {
        let of_a_lane = self.channels * self.taps[1] * self.taps[2] * self.blocks() * self.pair;
        let a_step = of_a_lane.next_multiple_of(8) * LANES;
        self.class_count() * self.blocks_out() * self.channel_steps() * self.taps[0] * a_step
    }

    pub(super) fn constants(&self) -> Constants {
        let ([_, kh, kw], [_, sh, sw]) = (self.taps, self.stride);
        let window = ([kh, kw], [sh, sw]);
        let pair = (self.pair, self.skip());
        let mut constants = constants(window, self.tile, self.channels, self.blocks(), pair);
        constants.extend(reading(self.reads, self.shift()));
        constants
    }
}

fn constants(
    ([kernel_h, kernel_w], [stride_h, stride_w]): ([usize; 2], [usize; 2]),
    tile: [usize; 3],
    channels: usize,
    blocks: usize,
    (pair, skip): (usize, usize),
) -> Constants {
    let list = [
        ("KERNEL_H", kernel_h),
        ("KERNEL_W", kernel_w),
        ("STRIDE_H", stride_h),
        ("STRIDE_W", stride_w),
        ("TILE_D", tile[0]),
        ("TILE_H", tile[1]),
        ("TILE_W", tile[2]),
        ("CHANNELS", channels),
        ("BLOCKS", blocks),
        ("PAIR", pair),
        ("SKIP", skip),
    ];
    list.map(|(name, value)| (name, value as u32)).to_vec()
}

/// Columns between a multiple of 4 and the window that `before` zeros come before.
const fn shift(before: usize) -> usize {
    (4 - before % 4) % 4
}

fn reading(reads: Reads, shift: usize) -> Constants {
    vec![
        ("GUARDED", u32::from(reads == Reads::Guarded)),
        ("SHIFT", shift as u32),
    ]
}

/// All specialisations in use.
pub(in crate::ops::conv) fn specialisations() -> Vec<Constants> {
    let windows = WINDOWS.map(|window| (window, (1, 0), usual_padding(window.0[1])));
    let paired = PAIRED.map(|(taps, skip)| ((taps, [1, 1]), (2, skip), [0; 3]));
    let mut list = Vec::new();
    for blocks in [1, 2] {
        for (window, pair, usual) in windows.into_iter().chain(paired) {
            let channels = match (window.0[1], pair) {
                (1, (2, _)) => CHANNELS,
                _ => 1,
            };
            let with = |tile, reads, shift| {
                let shape = constants(window, tile, channels, blocks, pair);
                [shape, reading(reads, shift)].concat()
            };
            let [copied, guarded] = [false, true].map(|guards| tiles_of(window.0[0], guards));
            list.extend(copied.iter().map(|&tile| with(tile, Reads::Copy, 0)));
            let mut shifts = usual.map(shift).to_vec();
            shifts.dedup();
            shifts.retain(|_| channels == 1);
            for shift in shifts {
                let tiles = guarded.iter();
                list.extend(tiles.map(|&tile| with(tile, Reads::Guarded, shift)));
            }
        }
        let row = constants(([1, 1], [1, 1]), ROW, CHANNELS, blocks, (1, 0));
        list.push([row, reading(Reads::InPlace, 0)].concat());
    }
    list
}
