//! An open device: its queue, its pipelines, its counters, and the error that ended it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(not(target_arch = "wasm32"))]
use rayon::prelude::*;

use super::accesses::declared_writable;
use super::adapter::{
    choose, class_of, enumerate, instance, subgroup_sizes, timestamp_features, wanted_or_variable,
};
use super::matrices::{experimental, usable};
use super::pipeline::{Pipeline, build_pipeline};
use super::{Constants, DeviceProfile, GpuError, Kernel};
use crate::tensor::Element;

/// How a device is opened.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// An index or a part of an adapter's name; the environment variable `VOXSEG_ADAPTER` where `None`.
    pub adapter: Option<String>,
    /// Keep the bounds checks that wgpu adds to kernels.
    pub checked: bool,
    /// Bind no more bytes of a buffer at once than so many, below what the adapter allows; for tests.
    pub binding_limit: Option<u64>,
    /// Kernel variants to force by family, for tests and fault finding.
    pub forced_variants: BTreeMap<String, String>,
    /// Kernel variants to prefer by problem, as measured on this adapter.
    pub measured_variants: BTreeMap<String, String>,
}

/// What has been created on a device so far; a training step must not move these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuCounters {
    /// Buffers created.
    pub buffers: u64,
    /// Bind groups created.
    pub bind_groups: u64,
    /// Pipelines created.
    pub pipelines: u64,
    /// Queue submissions.
    pub submits: u64,
}

#[derive(Default)]
struct Counters {
    buffers: AtomicU64,
    bind_groups: AtomicU64,
    pipelines: AtomicU64,
    submits: AtomicU64,
}

/// A kernel goes by its place in memory: one from outside may bear the name of one of ours.
type PipelineKey = (usize, Constants, Vec<Element>, bool);

/// What a pipeline is compiled of.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Its specialisation.
    pub constants: &'a Constants,
    /// What each storage buffer holds; those beyond the list hold f32.
    pub elements: &'a [Element],
    /// Whether all storage buffers are declared read_write: wgpu refuses a dispatch that binds one buffer both for reading
    /// and for writing, whatever the ranges.
    pub all_writable: bool,
}

impl Wanted<'_> {
    fn key(&self) -> PipelineKey {
        let place = std::ptr::from_ref(self.kernel).addr();
        let (constants, elements) = (self.constants.clone(), self.elements.to_vec());
        (place, constants, elements, self.all_writable)
    }
}

/// An open device. Cheap to share behind an `Arc`.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    adapter: wgpu::Adapter,
    info: wgpu::AdapterInfo,
    profile: DeviceProfile,
    timestamps: bool,
    checked: bool,
    end: Arc<Mutex<Option<GpuError>>>,
    pipelines: Mutex<BTreeMap<PipelineKey, Arc<Pipeline>>>,
    counters: Counters,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({})", self.describe())
    }
}

/// A poisoned lock only says that another thread panicked; the maps behind ours stay consistent.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Opens an adapter: by `options.adapter`, else `VOXSEG_ADAPTER`, else the best by rule (discrete,
    /// integrated, virtual, software).
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`], [`GpuError::NoSuchAdapter`] or [`GpuError::Open`].
    pub async fn open(options: &GpuOptions) -> Result<Arc<Self>, GpuError> {
        let wanted = wanted_or_variable(options.adapter.as_deref());
        let adapter = choose(enumerate(&instance()).await, wanted.as_deref())?;
        Self::open_adapter(&adapter, options).await
    }

    /// Opens wgpu's noop backend, which validates everything and computes nothing: for tests of graphs,
    /// plans and recordings, never for numbers. It reports the limits of a minimal WebGPU device.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`] or [`GpuError::Open`].
    pub async fn open_noop() -> Result<Arc<Self>, GpuError> {
        let noop = wgpu::NoopBackendOptions {
            enable: true,
            limits: Some(wgpu::Limits::default()),
            ..Default::default()
        };
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::NOOP,
            backend_options: wgpu::BackendOptions {
                noop,
                ..Default::default()
            },
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let adapter = choose(enumerate(&instance).await, None)?;
        Self::open_adapter(&adapter, &GpuOptions::default()).await
    }

    async fn open_adapter(
        adapter: &wgpu::Adapter,
        options: &GpuOptions,
    ) -> Result<Arc<Self>, GpuError> {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let wanted = timestamp_features()
            | wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::SHADER_INT64;
        let mut features = adapter.features() & wanted;
        let cooperative = usable(adapter);
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if !cooperative.is_empty() {
            features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            experimental_features = experimental();
        }
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("voxseg"),
                required_features: features,
                experimental_features,
                required_limits: limits.clone(),
                memory_hints: wgpu::MemoryHints::Performance,
                ..Default::default()
            })
            .await
            .map_err(|e| GpuError::open(&info.name, &e.to_string()))?;
        let end = Arc::new(Mutex::new(None));
        watch(&device, &end);
        Ok(Arc::new(Self {
            profile: DeviceProfile {
                class: class_of(&info),
                max_binding: limits
                    .max_storage_buffer_binding_size
                    .min(options.binding_limit.unwrap_or(u64::MAX)),
                max_buffer: limits.max_buffer_size,
                max_workgroup_memory: limits.max_compute_workgroup_storage_size,
                max_invocations: limits.max_compute_invocations_per_workgroup,
                subgroup: subgroup_sizes(adapter),
                f16: features.contains(wgpu::Features::SHADER_F16),
                int64: features.contains(wgpu::Features::SHADER_INT64),
                cooperative,
                memory_budget: None,
                forced_variants: options.forced_variants.clone(),
                measured_variants: options.measured_variants.clone(),
            },
            timestamps: features.contains(timestamp_features()),
            checked: options.checked,
            device,
            queue,
            adapter: adapter.clone(),
            info,
            end,
            pipelines: Mutex::default(),
            counters: Counters::default(),
        }))
    }

    /// The same adapter, opened once more so that kernels are chosen as `measured` by problem says.
    ///
    /// # Errors
    /// [`GpuError::Open`].
    pub async fn preferring(
        &self,
        measured: BTreeMap<String, String>,
    ) -> Result<Arc<Self>, GpuError> {
        let options = GpuOptions {
            adapter: None,
            checked: self.checked,
            binding_limit: Some(self.profile.max_binding),
            forced_variants: self.profile.forced_variants.clone(),
            measured_variants: measured,
        };
        Self::open_adapter(&self.adapter, &options).await
    }

    /// What lowering and planning need to know of this device.
    pub fn profile(&self) -> &DeviceProfile {
        &self.profile
    }

    /// Whether every dispatch can be timed on the device.
    pub fn has_timestamps(&self) -> bool {
        self.timestamps
    }

    /// Name, backend and driver in one line, for the head of every run and for caches.
    pub fn describe(&self) -> String {
        let i = &self.info;
        format!(
            "{} ({:?}, {} {})",
            i.name, i.backend, i.driver, i.driver_info
        )
    }

    /// What has been created so far.
    pub fn counters(&self) -> GpuCounters {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        GpuCounters {
            buffers: get(&self.counters.buffers),
            bind_groups: get(&self.counters.bind_groups),
            pipelines: get(&self.counters.pipelines),
            submits: get(&self.counters.submits),
        }
    }

    /// `Err` once the device has failed; after a loss the other calls stay silent.
    ///
    /// # Errors
    /// [`GpuError::Lost`], [`GpuError::OutOfMemoryRunning`] or [`GpuError::Validation`], with the driver's words.
    pub fn check_alive(&self) -> Result<(), GpuError> {
        lock(&self.end).clone().map_or(Ok(()), Err)
    }

    /// Gives the device up with all its memory, whoever still holds its buffers: as when the driver loses it, every
    /// later use is [`GpuError::Lost`].
    pub fn destroy(&self) {
        let reason = "this program gave it up".to_owned();
        lock(&self.end).get_or_insert(GpuError::Lost(reason));
        self.device.destroy();
    }

    /// The pipeline of a kernel under a specialisation, compiled at its first use.
    ///
    /// # Errors
    /// [`GpuError::UnknownConstant`] or [`GpuError::Shader`].
    pub fn pipeline(&self, wanted: Wanted<'_>) -> Result<Arc<Pipeline>, GpuError> {
        let key = wanted.key();
        if let Some(found) = lock(&self.pipelines).get(&key) {
            return Ok(found.clone());
        }
        let pipeline = Arc::new(self.compile(wanted)?);
        self.counters.pipelines.fetch_add(1, Ordering::Relaxed);
        lock(&self.pipelines).insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// Compiles those of `wanted` that are not there yet, on all cores: drivers take up to a second over a large
    /// register tile, and a training step has dozens of pipelines.
    ///
    /// # Errors
    /// As [`Gpu::pipeline`].
    pub fn prepare_pipelines<'a>(
        &self,
        wanted: impl IntoIterator<Item = Wanted<'a>>,
    ) -> Result<(), GpuError> {
        let mut missing: BTreeMap<PipelineKey, &'static Kernel> = wanted
            .into_iter()
            .map(|wanted| (wanted.key(), wanted.kernel))
            .collect();
        missing.retain(|key, _| !lock(&self.pipelines).contains_key(key));
        let missing: Vec<_> = missing.into_iter().collect();
        let compile = |(key, kernel): &(PipelineKey, &'static Kernel)| {
            let (_, constants, elements, all_writable) = key;
            let wanted = Wanted {
                kernel,
                constants,
                elements,
                all_writable: *all_writable,
            };
            self.pipeline(wanted).map(|_| ())
        };
        #[cfg(not(target_arch = "wasm32"))]
        return missing.par_iter().try_for_each(compile);
        #[cfg(target_arch = "wasm32")]
        return missing.iter().try_for_each(compile);
    }

    fn compile(&self, wanted: Wanted<'_>) -> Result<Pipeline, GpuError> {
        let kernel = wanted.kernel;
        let wide = self.profile.moves_words();
        let mut source = kernel.specialise(wanted.constants, wanted.elements, wide)?;
        if wanted.all_writable {
            source = declared_writable(&source);
        }
        // Error scopes belong to a thread, so that those of two compilations do not meet.
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let pipeline = build_pipeline(&self.device, &wanted, &source, self.checked);
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(GpuError::Shader {
                kernel: kernel.name.to_owned(),
                reason: error.to_string(),
            }),
            None => Ok(pipeline),
        }
    }

    pub(super) fn count_buffer(&self) {
        self.counters.buffers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_bind_group(&self) {
        self.counters.bind_groups.fetch_add(1, Ordering::Relaxed);
    }

    /// Submits one command buffer.
    pub(super) fn submit(&self, commands: wgpu::CommandBuffer) -> wgpu::SubmissionIndex {
        self.counters.submits.fetch_add(1, Ordering::Relaxed);
        self.queue.submit([commands])
    }
}

/// wgpu's default handler of stray errors panics, and a lost device reports nothing at all: both end in our flag.
fn watch(device: &wgpu::Device, end: &Arc<Mutex<Option<GpuError>>>) {
    let flag = end.clone();
    device.set_device_lost_callback(move |_, message| {
        lock(&flag).get_or_insert(GpuError::Lost(message));
    });
    let flag = end.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        lock(&flag).get_or_insert(GpuError::stray(error));
    }));
}
