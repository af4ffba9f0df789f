//! The form of a U-Net that suits a spacing and a patch, and what it costs.

use serde::{Deserialize, Serialize};

use super::overrides::StageLists;

/// No axis is halved below this many voxels.
const MIN_EDGE: f64 = 4.0;

/// Axes whose spacings differ by less than this factor count as equally fine.
const ALIKE: f64 = 2.0;

/// Convolutions of each stage of a plain encoder, and of its decoder.
const PLAIN_CONVS: usize = 2;

/// Convolutions of each decoder stage behind a residual encoder.
const RESIDUAL_DECODER_CONVS: usize = 1;

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
    /// Convolutions of each stage of a plain encoder; two where `None`, as in plans of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convs: Option<Vec<usize>>,
    /// Convolutions of each decoder stage; two where `None`, or one behind a residual encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_convs: Option<Vec<usize>>,
    /// Decoder stages with a segmentation head, 0 = finest; all where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<Vec<usize>>,
}

/// What the form of a network follows from.
#[derive(Clone, Debug, PartialEq)]
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
    /// What the user decides of the stages.
    pub stages: StageLists,
}

impl Shaping {
    /// The network for patches of about `patch` (D, H, W) voxels, and the patch rounded up to what
    /// its strides divide.
    ///
    /// nnU-Net's rule: an axis is halved while it has 8 voxels and its spacing is within a factor of
    /// 2 of the finest that can be halved (12 voxels if it is the only one); its kernel is 1 until its
    /// spacing is within a factor of 2 of the finest, then 3. The bottleneck has 3 along all axes. Lists of
    /// [`Shaping::stages`] take the place of the rule.
    pub fn topology(&self, patch: [f64; 3]) -> (Topology, [usize; 3]) {
        let axes: &[usize] = if self.planar { &[1, 2] } else { &[0, 1, 2] };
        let (mut size, mut spacing) = (patch, self.spacing);
        let mut kernel = [1; 3];
        let mut kernels = Vec::new();
        let mut strides = vec![[1; 3]];
        while strides.len() < self.max_stages.min(self.stages.most_stages()) {
            let Some(stride) = self.next_stride(strides.len(), axes, size, spacing) else {
                break;
            };
            let finest = finest(axes, spacing);
            for &axis in axes {
                if spacing[axis] / finest < ALIKE {
                    kernel[axis] = 3;
                }
            }
            for (axis, &step) in stride.iter().enumerate() {
                spacing[axis] *= step as f64;
                size[axis] = (size[axis] / step as f64).ceil();
            }
            kernels.push(kernel);
            strides.push(stride);
        }
        let mut bottleneck = [1; 3];
        axes.iter().for_each(|&axis| bottleneck[axis] = 3);
        kernels.push(bottleneck);
        let given = &self.stages;
        let (blocks, convs) = match (self.residual, given.encoder_blocks.clone()) {
            (true, Some(blocks)) => (Some(blocks), None),
            (true, None) => (Some(residual_blocks(strides.len())), None),
            (false, convs) => (None, convs),
        };
        let mut topology = Topology {
            features: given
                .features
                .clone()
                .unwrap_or_else(|| self.features(strides.len())),
            blocks,
            convs,
            decoder_convs: given.decoder_blocks.clone(),
            heads: given.heads.clone(),
            kernels: given.kernels.clone().unwrap_or(kernels),
            strides,
        };
        // What is decided is written down: a plan read from a file must not depend on what this version finds usual.
        if !self.residual {
            topology.convs = Some(topology.encoder_blocks());
        }
        topology.decoder_convs = Some(topology.decoder_blocks());
        topology.heads = Some(topology.heads());
        let divisor = topology.divisor();
        let padded = std::array::from_fn(|axis| {
            let multiple = (patch[axis] / divisor[axis] as f64).ceil().max(1.0);
            multiple as usize * divisor[axis]
        });
        (topology, padded)
    }

    /// The stride into stage number `stage`; `None` where there is no such stage.
    fn next_stride(
        &self,
        stage: usize,
        axes: &[usize],
        size: [f64; 3],
        spacing: [f64; 3],
    ) -> Option<[usize; 3]> {
        if let Some(strides) = &self.stages.strides {
            return strides.get(stage).copied();
        }
        let halved = axes_to_halve(axes, size, spacing);
        let step = |axis| if halved.contains(&axis) { 2 } else { 1 };
        (!halved.is_empty()).then(|| [0, 1, 2].map(step))
    }

    fn features(&self, stages: usize) -> Vec<usize> {
        let doubled = |features: &usize| Some(features.saturating_mul(2).min(self.max_features));
        let first = self.base_features.min(self.max_features);
        std::iter::successors(Some(first), doubled)
            .take(stages)
            .collect()
    }
}

fn residual_blocks(stages: usize) -> Vec<usize> {
    let last = RESIDUAL_BLOCKS.len() - 1;
    (0..stages).map(|s| RESIDUAL_BLOCKS[s.min(last)]).collect()
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

    /// Convolutions, or residual blocks, of each encoder stage.
    pub fn encoder_blocks(&self) -> Vec<usize> {
        let given = self.blocks.as_ref().or(self.convs.as_ref());
        given.cloned().unwrap_or(vec![PLAIN_CONVS; self.stages()])
    }

    /// Convolutions of each decoder stage, one entry fewer than stages.
    pub fn decoder_blocks(&self) -> Vec<usize> {
        let usual = match self.blocks {
            None => PLAIN_CONVS,
            Some(_) => RESIDUAL_DECODER_CONVS,
        };
        let given = self.decoder_convs.clone();
        given.unwrap_or(vec![usual; self.stages().saturating_sub(1)])
    }

    /// Decoder stages with a segmentation head, 0 = finest.
    pub fn heads(&self) -> Vec<usize> {
        let all = || (0..self.stages().saturating_sub(1)).collect();
        self.heads.clone().unwrap_or_else(all)
    }

    /// Whether all lists have one entry per stage (those of the decoder one fewer), and no entry is 0.
    pub(super) fn is_consistent(&self) -> bool {
        let stages = self.stages();
        let (encoder, decoder) = (self.encoder_blocks(), self.decoder_blocks());
        self.features.len() == stages
            && self.kernels.len() == stages
            && encoder.len() == stages
            && decoder.len() + 1 == stages
            && encoder.iter().chain(&decoder).all(|&n| n > 0)
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
        let (encoder, decoder, heads) =
            (self.encoder_blocks(), self.decoder_blocks(), self.heads());
        let mut sum = 0.0;
        for (stage, (&features, &voxels)) in self.features.iter().zip(&voxels).enumerate() {
            // Of residual blocks two a block, one for the skip of the first (where it changes the grid) or the stem.
            let encoded = match &self.blocks {
                None => encoder[stage],
                Some(_) => 2 * encoder[stage] + 1,
            };
            // The transposed convolution is one more output of a decoder stage.
            let decoded = decoder.get(stage).map_or(0, |convs| convs + 1);
            let has_head = heads.contains(&stage) && (stage == 0 || supervised);
            let head = if has_head { classes } else { 0 };
            sum += voxels * ((encoded + decoded) * features + head) as f64;
        }
        sum
    }

    /// Floating-point operations (two per multiply-add) of the forward pass of one patch.
    pub fn forward_flops(&self, patch: [usize; 3], channels: usize, classes: usize) -> f64 {
        let voxels = self.voxels(patch);
        let (encoder, decoder) = (self.encoder_blocks(), self.decoder_blocks());
        let mut sum = 0.0;
        let mut entering = channels;
        for (stage, (&features, &voxels)) in self.features.iter().zip(&voxels).enumerate() {
            let taps: usize = self.kernels[stage].iter().product();
            let repeated = taps * features * features;
            let first = taps * entering * features;
            let mut macs = first + (encoder[stage] - 1) * repeated;
            if self.blocks.is_some() {
                macs = first + (2 * encoder[stage] - 1) * repeated;
                // The first stage has a stem, the others a 1 x 1 x 1 convolution in a skip.
                macs += if stage == 0 {
                    repeated
                } else {
                    entering * features
                };
            }
            if let Some(&coarser) = self.features.get(stage + 1) {
                macs += (decoder[stage] + 1) * repeated + coarser * features;
                macs += if stage == 0 { features * classes } else { 0 };
            }
            sum += 2.0 * voxels * macs as f64;
            entering = features;
        }
        sum
    }
}
