//! From WGSL text to a compute pipeline with an explicit layout.

use super::{Access, Wanted};

/// A compiled kernel.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    checked: bool,
}

impl Pipeline {
    /// Whether it keeps the bounds checks that wgpu adds: that of a kernel from outside this library always does.
    pub fn is_checked(&self) -> bool {
        self.checked
    }
}

fn entry(binding: u32, ty: wgpu::BufferBindingType) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}

/// Builds the pipeline, checked where the caller or the kernel's origin asks for it; errors go to the caller's error
/// scope.
pub(super) fn build_pipeline(
    device: &wgpu::Device,
    wanted: &Wanted<'_>,
    source: &str,
    checked: bool,
) -> Pipeline {
    let kernel = wanted.kernel;
    let checked = checked || !kernel.is_shipped();
    let uniform = entry(0, wgpu::BufferBindingType::Uniform);
    let storage = (1..).zip(kernel.access).map(|(binding, access)| {
        entry(
            binding,
            wgpu::BufferBindingType::Storage {
                read_only: *access == Access::Read && !wanted.all_writable,
            },
        )
    });
    let entries: Vec<_> = std::iter::once(uniform).chain(storage).collect();
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(kernel.name),
        entries: &entries,
    });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(kernel.name),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let module = shader_module(device, kernel.name, source, checked);
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(kernel.name),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            // Every kernel writes its workgroup memory before it reads it.
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    });
    Pipeline {
        pipeline,
        layout,
        checked,
    }
}

/// The one place where bounds checks go off.
#[allow(unsafe_code)]
fn shader_module(
    device: &wgpu::Device,
    label: &str,
    source: &str,
    checked: bool,
) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(source.into()),
    };
    if checked {
        return device.create_shader_module(descriptor);
    }
    // SAFETY: the text is one of the files in `shaders/`, never a user's: only `shipped_kernel!` marks a kernel so, and it
    // takes the text from there. Each guards its loads and stores
    // by the extents in its parameter block, and its loops end by constants or by those extents; the
    // block is made by the lowering from the shapes of the very tensors that are bound. The test suite runs
    // every kernel with NaN canaries around its outputs, and `--checked` turns the checks on again.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}
