//! Which adapters there are, and which one is used.

use super::{AdapterClass, GpuError};

/// What `voxseg devices` shows of an adapter.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterSummary {
    /// Position in the list, as `--adapter INDEX` takes it.
    pub index: usize,
    /// The adapter's name.
    pub name: String,
    /// Vulkan, Metal or DX12.
    pub backend: String,
    /// Discrete, integrated, virtual or CPU.
    pub kind: String,
    /// The driver's name and version.
    pub driver: String,
    /// Largest storage binding, bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Workgroup memory, bytes.
    pub max_workgroup_memory_bytes: u32,
    /// Invocations of one workgroup.
    pub max_invocations: u32,
    /// Smallest and largest subgroup; absent without subgroup operations.
    pub subgroup: Option<(u32, u32)>,
    /// Whether kernels may use f16.
    pub f16: bool,
    /// Whether each dispatch can be timed.
    pub timestamps: bool,
    /// The cooperative matrix shapes (m, n, k) that the adapter offers.
    pub cooperative_matrices: Vec<(u32, u32, u32)>,
}

/// The backends that voxseg is meant for; the GL twin of a software Vulkan driver only confuses the list.
pub(super) fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        // Line numbers in SPIR-V, which naga counts from the top for every instruction: seconds for an unrolled kernel.
        flags: wgpu::InstanceFlags::from_build_config().difference(wgpu::InstanceFlags::DEBUG),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

/// All adapters, in the order of the driver.
pub async fn list_adapters() -> Vec<AdapterSummary> {
    enumerate(&instance())
        .await
        .iter()
        .enumerate()
        .map(|(i, a)| summarise(i, a))
        .collect()
}

pub(super) async fn enumerate(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    instance
        .enumerate_adapters(wgpu::Backends::all())
        .await
        .into_iter()
        .filter(|a| {
            a.get_downlevel_capabilities()
                .flags
                .contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
        })
        .collect()
}

fn summarise(index: usize, adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    AdapterSummary {
        index,
        name: info.name.clone(),
        backend: format!("{:?}", info.backend),
        kind: format!("{:?}", info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_owned(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        max_workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        subgroup: subgroup_sizes(adapter),
        f16: features.contains(wgpu::Features::SHADER_F16),
        timestamps: features.contains(timestamp_features()),
        cooperative_matrices: adapter
            .cooperative_matrix_properties()
            .iter()
            .map(|p| (p.m_size, p.n_size, p.k_size))
            .collect(),
    }
}

pub(super) fn timestamp_features() -> wgpu::Features {
    wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES
}

pub(super) fn subgroup_sizes(adapter: &wgpu::Adapter) -> Option<(u32, u32)> {
    let info = adapter.get_info();
    adapter
        .features()
        .contains(wgpu::Features::SUBGROUP)
        .then_some((info.subgroup_min_size, info.subgroup_max_size))
}

pub(super) fn class_of(info: &wgpu::AdapterInfo) -> AdapterClass {
    match info.device_type {
        wgpu::DeviceType::Cpu => AdapterClass::CpuLike,
        _ => AdapterClass::Gpu,
    }
}

/// Discrete before integrated before virtual before software; the driver's order among equals.
fn rank(adapter: &wgpu::Adapter) -> u8 {
    match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

/// Picks by `wanted` (an index, or a part of the name in any case), else the best by rule.
pub(super) fn choose(
    adapters: Vec<wgpu::Adapter>,
    wanted: Option<&str>,
) -> Result<wgpu::Adapter, GpuError> {
    if adapters.is_empty() {
        return Err(GpuError::NoAdapter);
    }
    let Some(wanted) = wanted.filter(|w| !w.is_empty()) else {
        return adapters
            .into_iter()
            .min_by_key(rank)
            .ok_or(GpuError::NoAdapter);
    };
    let names: Vec<String> = adapters.iter().map(|a| a.get_info().name).collect();
    let position = wanted.parse::<usize>().ok().or_else(|| {
        let wanted = wanted.to_lowercase();
        names
            .iter()
            .position(|n| n.to_lowercase().contains(&wanted))
    });
    position
        .and_then(|p| adapters.into_iter().nth(p))
        .ok_or_else(|| GpuError::NoSuchAdapter {
            wanted: wanted.to_owned(),
            found: names
                .iter()
                .enumerate()
                .map(|(i, n)| format!("{i}: {n}"))
                .collect::<Vec<_>>()
                .join(", "),
        })
}
