//! Which adapters there are, and which one is used.

use super::{AdapterClass, GpuError};

/// What `voxseg devices` shows of an adapter.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterSummary {
    /// Position in the list, as `--adapter INDEX` takes it.
    pub index: usize,
    /// Whether this is the one that a verb would use.
    pub chosen: bool,
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

/// All adapters, in the order of the driver, and which of them [`super::Gpu::open`] would take for `wanted`.
///
/// # Errors
/// [`GpuError::NoAdapter`]. That `wanted` matches none is no error here, since the list is what helps then: none of
/// them is chosen.
pub async fn list_adapters(wanted: Option<&str>) -> Result<Vec<AdapterSummary>, GpuError> {
    let adapters = enumerate(&instance()).await;
    let chosen = match position(&traits_of(&adapters), wanted_or_variable(wanted).as_deref()) {
        Ok(chosen) => Some(chosen),
        Err(GpuError::NoSuchAdapter { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(adapters
        .iter()
        .enumerate()
        .map(|(i, adapter)| summarise(i, chosen == Some(i), adapter))
        .collect())
}

/// `wanted`, else what the environment variable `VOXSEG_ADAPTER` says.
pub(super) fn wanted_or_variable(wanted: Option<&str>) -> Option<String> {
    let variable = || std::env::var("VOXSEG_ADAPTER").ok();
    wanted.map(str::to_owned).or_else(variable)
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

fn summarise(index: usize, chosen: bool, adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    AdapterSummary {
        index,
        chosen,
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

/// What the choice of an adapter looks at.
struct Traits {
    name: String,
    kind: wgpu::DeviceType,
}

fn traits_of(adapters: &[wgpu::Adapter]) -> Vec<Traits> {
    let infos = adapters.iter().map(wgpu::Adapter::get_info);
    infos
        .map(|info| Traits {
            name: info.name,
            kind: info.device_type,
        })
        .collect()
}

/// Discrete before integrated before virtual before software; the driver's order among equals.
fn rank(kind: wgpu::DeviceType) -> u8 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

/// Picks by `wanted` (an index of the list, else a part of the name in any case), else the best by rule.
pub(super) fn choose(
    mut adapters: Vec<wgpu::Adapter>,
    wanted: Option<&str>,
) -> Result<wgpu::Adapter, GpuError> {
    let chosen = position(&traits_of(&adapters), wanted)?;
    Ok(adapters.swap_remove(chosen))
}

/// The index of the adapter that [`choose`] picks.
fn position(adapters: &[Traits], wanted: Option<&str>) -> Result<usize, GpuError> {
    let best = (0..adapters.len())
        .min_by_key(|&i| rank(adapters[i].kind))
        .ok_or(GpuError::NoAdapter)?;
    let Some(wanted) = wanted.filter(|w| !w.is_empty()) else {
        return Ok(best);
    };
    let named = || {
        let wanted = wanted.to_lowercase();
        adapters
            .iter()
            .position(|a| a.name.to_lowercase().contains(&wanted))
    };
    let index = wanted.parse().ok().filter(|&i| i < adapters.len());
    index.or_else(named).ok_or_else(|| GpuError::NoSuchAdapter {
        wanted: wanted.to_owned(),
        found: adapters
            .iter()
            .enumerate()
            .map(|(i, a)| format!("{i}: {}", a.name))
            .collect::<Vec<_>>()
            .join(", "),
    })
}

#[cfg(test)]
mod tests {
    use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu};

    use super::*;

    fn machine() -> Vec<Traits> {
        let traits = |(name, kind): (&str, _)| Traits {
            name: name.to_owned(),
            kind,
        };
        [
            ("llvmpipe", Cpu),
            ("Iris Xe", IntegratedGpu),
            ("RTX A", DiscreteGpu),
            ("RTX B 4090", DiscreteGpu),
        ]
        .map(traits)
        .into()
    }

    #[test]
    fn the_first_discrete_adapter_is_the_best_wherever_it_stands() {
        assert_eq!(position(&machine(), None).unwrap(), 2);
        assert_eq!(position(&machine(), Some("")).unwrap(), 2);
        assert_eq!(position(&machine()[..2], None).unwrap(), 1);
        assert!(matches!(position(&[], None), Err(GpuError::NoAdapter)));
    }

    #[test]
    fn an_index_or_a_part_of_the_name_overrules_it() {
        assert_eq!(position(&machine(), Some("0")).unwrap(), 0);
        assert_eq!(position(&machine(), Some("rtx b")).unwrap(), 3);
        assert_eq!(position(&machine(), Some("4090")).unwrap(), 3);
        for wanted in ["5", "radeon"] {
            let error = position(&machine(), Some(wanted)).unwrap_err().to_string();
            assert!(
                error.contains(wanted) && error.contains("1: Iris Xe"),
                "{error}"
            );
        }
    }
}
