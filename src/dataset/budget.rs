//! What a machine can carry: the limits that a plan keeps within.

/// Limits for one kind of data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// Output elements of all convolutions that a batch of `reference_batch` may have: nnU-Net's
    /// stand-in for memory.
    pub reference_elements: f64,
    /// See `reference_elements`.
    pub reference_batch: usize,
    /// Most features of a stage.
    pub max_features: usize,
    /// Most patches a batch.
    pub max_batch: usize,
    /// Most voxels of a patch.
    pub max_patch_voxels: usize,
    /// Most floating-point operations of the forward pass of one patch.
    pub max_forward_flops: f64,
}

/// Limits that a plan keeps within.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// For volumes.
    pub volumes: Allowance,
    /// For single slices and pictures.
    pub slices: Allowance,
    /// Features of the finest stage.
    pub base_features: usize,
    /// Fewest patches a batch.
    pub min_batch: usize,
    /// Most stages.
    pub max_stages: usize,
    /// Share of the voxels of all training cases that a batch may have at most, beyond `min_batch`.
    pub dataset_share: f64,
    /// Whether the encoder has residual blocks.
    pub residual: bool,
}

/// No limit beside that of `reference_elements`.
const UNLIMITED: Allowance = Allowance {
    reference_elements: 0.0,
    reference_batch: 2,
    max_features: 320,
    max_batch: usize::MAX,
    max_patch_voxels: usize::MAX,
    max_forward_flops: f64::INFINITY,
};

impl Budget {
    /// nnU-Net's plain network on a GPU with so many gigabytes (its own default is 8).
    pub fn nnunet(gigabytes: f64) -> Self {
        Self {
            volumes: Allowance {
                reference_elements: 560e6 * gigabytes / 8.0,
                ..UNLIMITED
            },
            slices: Allowance {
                reference_elements: 85e6 * gigabytes / 8.0,
                reference_batch: 12,
                max_features: 512,
                ..UNLIMITED
            },
            base_features: 32,
            min_batch: 2,
            max_stages: usize::MAX,
            dataset_share: 0.05,
            residual: false,
        }
    }

    /// nnU-Net's residual encoder on a GPU with so many gigabytes, scaled from its preset L (24).
    pub fn nnunet_residual(gigabytes: f64) -> Self {
        let plain = Self::nnunet(gigabytes);
        Self {
            volumes: Allowance {
                reference_elements: 2.1e9 * gigabytes / 24.0,
                ..plain.volumes
            },
            slices: Allowance {
                reference_elements: 380e6 * gigabytes / 24.0,
                ..plain.slices
            },
            dataset_share: 1.0,
            residual: true,
            ..plain
        }
    }

    /// A network for adapters that compute on the CPU: about 6 GFLOP forward for a patch of about
    /// 64 x 64 x 48 voxels, two of them a batch, or four pictures of 256 x 256.
    pub fn cpu_like() -> Self {
        let gpu = Self::nnunet(8.0);
        let small = |allowance| Allowance {
            max_features: 128,
            max_forward_flops: 6e9,
            ..allowance
        };
        Self {
            volumes: Allowance {
                max_batch: 2,
                max_patch_voxels: 64 * 64 * 52,
                ..small(gpu.volumes)
            },
            slices: Allowance {
                max_batch: 4,
                max_patch_voxels: 256 * 256,
                ..small(gpu.slices)
            },
            base_features: 8,
            max_stages: 5,
            dataset_share: 1.0,
            ..gpu
        }
    }

    /// The limits for slices or for volumes.
    pub fn allowance(&self, planar: bool) -> &Allowance {
        if planar { &self.slices } else { &self.volumes }
    }
}
