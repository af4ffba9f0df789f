//! What the choice of kernels needs to know of an adapter, as plain data.

use std::collections::BTreeMap;

use super::CooperativeMatrix;

/// The two kinds of adapter that want different kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterClass {
    /// A CPU that plays a GPU (lavapipe, SwiftShader, WARP): no workgroup memory, no barriers, big register tiles.
    CpuLike,
    /// A GPU: workgroup memory, many invocations.
    Gpu,
}

/// Limits and features of a device that lowering and planning depend on.
#[derive(Clone, Debug)]
pub struct DeviceProfile {
    /// The class of adapter.
    pub class: AdapterClass,
    /// Largest storage binding, bytes.
    pub max_binding: u64,
    /// Largest buffer, bytes.
    pub max_buffer: u64,
    /// Workgroup memory, bytes.
    pub max_workgroup_memory: u32,
    /// Invocations of one workgroup.
    pub max_invocations: u32,
    /// Smallest and largest subgroup, where subgroup operations may be used.
    pub subgroup: Option<(u32, u32)>,
    /// Whether kernels may use f16.
    pub f16: bool,
    /// Whether kernels may use u64. A CPU that plays a GPU loads and stores number by number, so that two f32 in a u64 take
    /// half as long.
    pub int64: bool,
    /// Products of cooperative matrices that kernels may use; then subgroup operations may be used as well.
    pub cooperative: Vec<CooperativeMatrix>,
    /// Bytes of device memory that one training step may plan for; none where `None`. WebGPU does not tell what there is.
    pub memory_budget: Option<u64>,
    /// Kernel variants forced by family (`"conv"` to `"naive"`), for tests, tuning and fault finding.
    pub forced_variants: BTreeMap<String, String>,
    /// Kernel variants that measuring found to be the fastest, by problem.
    pub measured_variants: BTreeMap<String, String>,
}

impl DeviceProfile {
    /// The smallest GPU that WebGPU allows: for planning without a device.
    pub fn minimal_gpu() -> Self {
        Self {
            class: AdapterClass::Gpu,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_workgroup_memory: 16 << 10,
            max_invocations: 256,
            subgroup: None,
            f16: false,
            int64: false,
            cooperative: Vec::new(),
            memory_budget: None,
            forced_variants: BTreeMap::new(),
            measured_variants: BTreeMap::new(),
        }
    }

    /// The most bytes of a buffer that a dispatch can bind.
    pub fn binding_limit(&self) -> u64 {
        self.max_binding.min(self.max_buffer) / 4 * 4
    }

    /// The variant forced for `family`, if any.
    pub fn forced(&self, family: &str) -> Option<&str> {
        self.forced_variants.get(family).map(String::as_str)
    }

    /// The variant that was the fastest for `problem`, where that was measured.
    pub fn measured(&self, problem: &str) -> Option<&str> {
        self.measured_variants.get(problem).map(String::as_str)
    }

    /// Whether kernels move a vec4 of a storage buffer as two u64: half the accesses, where each component counts as one.
    pub fn moves_words(&self) -> bool {
        self.class == AdapterClass::CpuLike && self.int64
    }

    /// Whether subgroups have exactly `lanes` invocations.
    pub fn has_subgroups_of(&self, lanes: u32) -> bool {
        self.subgroup == Some((lanes, lanes))
    }

    /// Whether it is a CPU whose vectors have exactly `lanes` elements: what kernels are made for that load little and spread
    /// it over the lanes.
    pub fn is_cpu_with_lanes(&self, lanes: u32) -> bool {
        self.class == AdapterClass::CpuLike && self.has_subgroups_of(lanes)
    }
}
