//! The form of a U-Net that suits a spacing and a patch, and what it costs.

use serde::{Deserialize, Serialize};

/// No axis is halved below this many voxels.
const MIN_EDGE: f64 = 4.0;

/// Axes whose spacings differ by less than this factor count as equally fine.
const ALIKE: f64 = 2.0;

/// Convolutions of each stage of a plain encoder, and of a plain decoder.
const PLAIN_CONVS: usize = 2;

/// Residual blocks of the first stages; all further ones have as many as the last.
const RESIDUAL_BLOCKS: [usize; 4] = [1, 3, 4, 6];

/// The stages of a U-Net, finest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Features of each stage.
    pub features: Vec<usize>,
    /// Kernel (D, H, W) of the convolutions of each stage.
    pub kernels: Vec<[usize; 3]>,
    /// Stride (D, H, W) into each stage; the first is 1.
    pub strides: Vec<[usize; 3]>,
    /// Residual blocks of each stage of the encoder; `None` for a plain one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<usize>>,
}

/// What the form of a network follows from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shaping {
    /// Spacing (D, H, W) in mm.
    pub spacing: [f64; 3],
    /// Whether D is left alone: kernels and strides of 1 along it.
    pub planar: bool,
    /// Features of the finest stage; doubled from stage to stage.
    pub base_features: usize,
    /// Most features of a stage.
    pub max_features: usize,
    /// Most stages.
    pub max_stages: usize,
    /// Whether the encoder has residual blocks.
    pub residual: bool,
}

impl Shaping {
    /// The network for patches of about `patch` (D, H, W) voxels, and the patch rounded up to what
    /// its strides divide.
    ///
    /// nnU-Net's rule: an axis is halved while it has 8 voxels and its spacing is within a factor of
    /// 2 of the finest that can be halved (12 voxels if it is the only one); its kernel is 1 until its
    /// spacing is within a factor of 2 of the finest, then 3. The bottleneck has 3 along all axes.
    pub fn topology(&self, patch: [f64; 3]) -> (Topology, [usize; 3]) {
        let axes: &[usize] = if self.planar { &[1, 2] } else { &[0, 1, 2] };
        let (mut size, mut spacing) = (patch, self.spacing);
        let mut kernel = [1; 3];
        let mut kernels = Vec::new();
        let mut strides = vec![[1; 3]];
        while strides.len() < self.max_stages {
            let halved = axes_to_halve(axes, size, spacing);
            if halved.is_empty() {
                break;
            }
            let finest = finest(axes, spacing);
            let mut stride = [1; 3];
            for &axis in axes {
                if spacing[axis] / finest < ALIKE {
                    kernel[axis] = 3;
                }
            }
            for &axis in &halved {
                stride[axis] = 2;
                spacing[axis] *= 2.0;
                size[axis] = (size[axis] / 2.0).ceil();
            }
            kernels.push(kernel);
            strides.push(stride);
        }
        let mut bottleneck = [1; 3];
        axes.iter().for_each(|&axis| bottleneck[axis] = 3);
        kernels.push(bottleneck);
        let topology = Topology {
            features: self.features(strides.len()),
            blocks: self.residual.then(|| {
                let last = RESIDUAL_BLOCKS.len() - 1;
                (0..strides.len())
                    .map(|s| RESIDUAL_BLOCKS[s.min(last)])
                    .collect()
            }),
            kernels,
            strides,
        };
        let divisor = topology.divisor();
        let padded = std::array::from_fn(|axis| {
            let multiple = (patch[axis] / divisor[axis] as f64).ceil().max(1.0);
            multiple as usize * divisor[axis]
        });
        (topology, padded)
    }

    fn features(&self, stages: usize) -> Vec<usize> {
        let doubled = |features: &usize| Some(features.saturating_mul(2).min(self.max_features));
        let first = self.base_features.min(self.max_features);
        std::iter::successors(Some(first), doubled)
            .take(stages)
            .collect()
    }
}

fn finest(axes: &[usize], spacing: [f64; 3]) -> f64 {
    axes.iter()
        .map(|&axis| spacing[axis])
        .fold(f64::INFINITY, f64::min)
}

fn axes_to_halve(axes: &[usize], size: [f64; 3], spacing: [f64; 3]) -> Vec<usize> {
    let large = |&&axis: &&usize| size[axis] >= 2.0 * MIN_EDGE;
    let mut halved: Vec<usize> = axes.iter().filter(large).copied().collect();
    let finest = finest(&halved, spacing);
    halved.retain(|&axis| spacing[axis] / finest < ALIKE);
    if let [only] = halved[..]
        && size[only] < 3.0 * MIN_EDGE
    {
        halved.clear();
    }
    halved
}

impl Topology {
    /// Number of stages, the bottleneck included.
    pub fn stages(&self) -> usize {
        self.strides.len()
    }

    /// What the extent (D, H, W) of a patch must be a multiple of.
    pub fn divisor(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.strides.iter().map(|stride| stride[axis]).product())
    }

    /// Whether every stage halves a patch of `patch` (D, H, W) without a rest.
    pub(super) fn divides(&self, patch: [usize; 3]) -> bool {
        let strides = (0..3).map(|axis| {
            let along = self.strides.iter().map(|stride| stride[axis]);
            along.fold(1usize, usize::saturating_mul)
        });
        patch.iter().zip(strides).all(|(n, s)| n.is_multiple_of(s))
    }

    /// Voxels of each stage for a patch of `patch` (D, H, W).
    fn voxels(&self, patch: [usize; 3]) -> Vec<f64> {
        let mut size = patch;
        self.strides
            .iter()
            .map(|stride| {
                size = std::array::from_fn(|axis| size[axis] / stride[axis]);
                size.iter().map(|&n| n as f64).product()
            })
            .collect()
    }

    /// Output elements of all convolutions for one patch: nnU-Net's stand-in for memory
    /// (`compute_conv_feature_map_size`).
    pub fn feature_elements(&self, patch: [usize; 3], classes: usize, supervised: bool) -> f64 {
        let voxels = self.voxels(patch);
        let mut sum = 0.0;
        for (stage, (&features, &voxels)) in self.features.iter().zip(&voxels).enumerate() {
            let is_decoded = stage + 1 < self.stages();
            // The transposed convolution is one more output of a decoder stage.
            let decoder = match (is_decoded, &self.blocks) {
                (false, _) => 0,
                (true, None) => PLAIN_CONVS + 1,
                (true, Some(_)) => 2,
            };
            let encoder = self.encoder_convs(stage);
            let has_head = is_decoded && (stage == 0 || supervised);
            let head = if has_head { classes } else { 0 };
            sum += voxels * ((encoder + decoder) * features + head) as f64;
        }
        sum
    }

    /// Outputs of convolutions of an encoder stage: with residual blocks two a block, one for the
    /// skip of the first (where it changes the grid), one for the stem.
    fn encoder_convs(&self, stage: usize) -> usize {
        match &self.blocks {
            None => PLAIN_CONVS,
            Some(blocks) => 2 * blocks[stage] + 1,
        }
    }

    /// Floating-point operations (two per multiply-add) of the forward pass of one patch.
    pub fn forward_flops(&self, patch: [usize; 3], channels: usize, classes: usize) -> f64 {
        let voxels = self.voxels(patch);
        let mut sum = 0.0;
        let mut entering = channels;
        for (stage, (&features, &voxels)) in self.features.iter().zip(&voxels).enumerate() {
            let taps: usize = self.kernels[stage].iter().product();
            let repeated = taps * features * features;
            let first = taps * entering * features;
            let mut macs = first + (PLAIN_CONVS - 1) * repeated;
            if let Some(blocks) = &self.blocks {
                macs = first + (2 * blocks[stage] - 1) * repeated;
                // The first stage has a stem, the others a 1 x 1 x 1 convolution in a skip.
                macs += if stage == 0 {
                    repeated
                } else {
                    entering * features
                };
            }
            if let Some(&coarser) = self.features.get(stage + 1) {
                let further = if self.blocks.is_some() {
                    0
                } else {
                    PLAIN_CONVS - 1
                };
                macs += 2 * repeated + further * repeated + coarser * features;
                macs += if stage == 0 { features * classes } else { 0 };
            }
            sum += 2.0 * voxels * macs as f64;
            entering = features;
        }
        sum
    }
}
