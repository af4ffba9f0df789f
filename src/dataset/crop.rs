//! Cropping to what is not zero.

/// A box of voxels: the first voxel and the extent, along D, H, W.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bounds {
    /// First voxel inside.
    pub start: [usize; 3],
    /// Voxels along each axis.
    pub extent: [usize; 3],
}

impl Bounds {
    /// The box that is all of `shape`.
    pub fn whole(shape: [usize; 3]) -> Self {
        Self {
            start: [0; 3],
            extent: shape,
        }
    }

    /// D * H * W.
    pub fn voxels(&self) -> usize {
        self.extent.iter().product()
    }
}

/// The smallest box around all voxels that are not 0 in some channel (nnU-Net's `crop_to_nonzero`;
/// filling holes cannot change a box). An image of zeros alone is not cropped.
///
/// `image` is C, D, H, W with D, H, W = `shape`.
pub fn nonzero_bounds(image: &[f32], shape: [usize; 3]) -> Bounds {
    let [depth, height, width] = shape;
    let (mut low, mut high) = (shape, [0usize; 3]);
    for (row, values) in image.chunks_exact(width.max(1)).enumerate() {
        let Some(first) = values.iter().position(|&v| v != 0.0) else {
            continue;
        };
        let last = values.iter().rposition(|&v| v != 0.0).unwrap_or(first);
        let (d, h) = (row / height % depth, row % height);
        for (axis, (from, to)) in [(d, d), (h, h), (first, last)].into_iter().enumerate() {
            low[axis] = low[axis].min(from);
            high[axis] = high[axis].max(to + 1);
        }
    }
    if low[0] >= high[0] {
        return Bounds::whole(shape);
    }
    Bounds {
        start: low,
        extent: std::array::from_fn(|axis| high[axis] - low[axis]),
    }
}

/// Cuts `bounds` out of every channel of `voxels` (C, D, H, W with D, H, W = `shape`).
pub fn crop<T: Copy>(voxels: &[T], shape: [usize; 3], bounds: Bounds) -> Vec<T> {
    let [depth, height, width] = shape;
    let volume = depth * height * width;
    let channels = voxels.len() / volume.max(1);
    let mut out = Vec::with_capacity(channels * bounds.voxels());
    for channel in voxels.chunks_exact(volume.max(1)) {
        for d in bounds.start[0]..bounds.start[0] + bounds.extent[0] {
            for h in bounds.start[1]..bounds.start[1] + bounds.extent[1] {
                let row = (d * height + h) * width + bounds.start[2];
                out.extend_from_slice(&channel[row..row + bounds.extent[2]]);
            }
        }
    }
    out
}

/// The voxels that are not 0 in some channel, with holes filled: background that no path of face
/// neighbours joins to the border. Axes of extent 1 have no border, so that a 2D image is filled in
/// its plane.
///
/// `image` is C, D, H, W with D, H, W = `shape`; the result is D, H, W.
pub fn nonzero_mask(image: &[f32], shape: [usize; 3]) -> Vec<bool> {
    let volume: usize = shape.iter().product();
    let mut inside = vec![false; volume];
    for channel in image.chunks_exact(volume.max(1)) {
        for (inside, &value) in inside.iter_mut().zip(channel) {
            *inside |= value != 0.0;
        }
    }
    fill_holes(&mut inside, shape);
    inside
}

/// Floods the background from the border; what stays dry is inside.
fn fill_holes(inside: &mut [bool], shape: [usize; 3]) {
    let strides = [shape[1] * shape[2], shape[2], 1];
    let position = |offset: usize, axis: usize| offset / strides[axis] % shape[axis];
    let is_border = |offset: usize| {
        (0..3).any(|axis| {
            let at = position(offset, axis);
            shape[axis] > 1 && (at == 0 || at + 1 == shape[axis])
        })
    };
    let mut outside = vec![false; inside.len()];
    let mut front = Vec::new();
    for offset in 0..inside.len() {
        if !inside[offset] && is_border(offset) {
            outside[offset] = true;
            front.push(offset);
        }
    }
    while let Some(offset) = front.pop() {
        for axis in 0..3 {
            let at = position(offset, axis);
            let before = (at > 0).then(|| offset - strides[axis]);
            let after = (at + 1 < shape[axis]).then(|| offset + strides[axis]);
            for next in before.into_iter().chain(after) {
                if !inside[next] && !outside[next] {
                    outside[next] = true;
                    front.push(next);
                }
            }
        }
    }
    for (inside, outside) in inside.iter_mut().zip(outside) {
        *inside = !outside;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_is_the_union_over_channels() {
        let shape = [3, 4, 5];
        let mut image = vec![0.0; 2 * 60];
        image[(4 + 2) * 5 + 1] = -1.0;
        image[60 + (2 * 4 + 3) * 5 + 4] = 2.0;
        let bounds = nonzero_bounds(&image, shape);
        assert_eq!(bounds.start, [1, 2, 1]);
        assert_eq!(bounds.extent, [2, 2, 4]);
    }

    #[test]
    fn an_image_of_zeros_is_not_cropped() {
        assert_eq!(
            nonzero_bounds(&[0.0; 24], [2, 3, 4]),
            Bounds::whole([2, 3, 4])
        );
    }

    #[test]
    fn holes_are_filled_but_bays_are_not() {
        let ring = [
            1.0, 1.0, 1.0, 1.0, 1.0, //
            1.0, 0.0, 1.0, 0.0, 0.0, //
            1.0, 1.0, 1.0, 1.0, 1.0,
        ];
        let mask = nonzero_mask(&ring, [1, 3, 5]);
        let dry: Vec<usize> = (0..15).filter(|&i| !mask[i]).collect();
        assert_eq!(dry, [8, 9]);
        // In a volume of three such slices the hole is a tunnel that is open at both ends.
        let tunnel = ring.repeat(3);
        assert!(!nonzero_mask(&tunnel, [3, 3, 5])[15 + 6]);
    }
}
