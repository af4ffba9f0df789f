//! Buffers on the device, and the staging buffers that feed and empty them.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use super::device::lock;
use super::{Gpu, GpuError};

/// A storage or uniform buffer on the device.
#[derive(Clone, Debug)]
pub struct GpuBuffer {
    pub(super) raw: wgpu::Buffer,
}

impl GpuBuffer {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.raw.size()
    }

    /// It from byte `first` on, `most` bytes or as far as it goes.
    pub fn range(&self, first: u64, most: u64) -> BufferRange<'_> {
        BufferRange {
            buffer: self,
            first,
            bytes: self.bytes().saturating_sub(first).min(most),
        }
    }
}

/// What a dispatch binds of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct BufferRange<'a> {
    buffer: &'a GpuBuffer,
    first: u64,
    bytes: u64,
}

impl BufferRange<'_> {
    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer.raw,
            offset: self.first,
            size: std::num::NonZeroU64::new(self.bytes),
        })
    }
}

/// The least of a storage buffer, bytes: wgpu refuses a binding that is smaller than one element of the array that a kernel
/// declares, whether the kernel looks at it or not.
const LEAST_STORAGE: u64 = 32;

/// wgpu copies and clears in units of 4 bytes, and refuses empty bindings.
fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(4).max(4)
}

impl Gpu {
    /// A storage buffer, zero-filled by the driver on first use.
    ///
    /// # Errors
    /// [`GpuError::BufferTooLarge`] above the device's limit, [`GpuError::OutOfMemory`], [`GpuError::Lost`].
    pub fn create_storage(&self, what: &str, bytes: u64) -> Result<GpuBuffer, GpuError> {
        let limit = self.profile().max_buffer;
        if bytes > limit {
            return Err(GpuError::BufferTooLarge {
                what: what.to_owned(),
                bytes,
                limit,
            });
        }
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        self.create(what, padded(bytes).max(LEAST_STORAGE), usage)
    }

    /// A uniform buffer with the given content; `bytes` hold all parameter blocks of a program.
    ///
    /// # Errors
    /// As [`Gpu::create_storage`].
    pub fn create_uniform(&self, what: &str, content: &[u8]) -> Result<GpuBuffer, GpuError> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = self.create(what, padded(content.len() as u64), usage)?;
        self.write(&buffer, content);
        Ok(buffer)
    }

    /// Writes the head of a buffer outside a recording (start-up, restoring a checkpoint).
    pub fn write(&self, buffer: &GpuBuffer, content: &[u8]) {
        if content.len().is_multiple_of(4) {
            self.queue.write_buffer(&buffer.raw, 0, content);
        } else {
            let mut whole = content.to_vec();
            whole.resize(padded(content.len() as u64) as usize, 0);
            self.queue.write_buffer(&buffer.raw, 0, &whole);
        }
    }

    /// Reads the head of a buffer outside a recording, waiting for the device.
    ///
    /// # Errors
    /// [`GpuError::Lost`], [`GpuError::OutOfMemory`].
    pub async fn read(&self, buffer: &GpuBuffer, bytes: u64) -> Result<Vec<u8>, GpuError> {
        let download = Download::new(self, bytes)?;
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&buffer.raw, 0, &download.raw, 0, Some(padded(bytes)));
        download.used_by(&self.submit(encoder.finish()));
        download.fetch(self, |content| content.to_vec()).await
    }

    fn create(
        &self,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<GpuBuffer, GpuError> {
        self.check_alive()?;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: bytes,
            usage,
            mapped_at_creation: false,
        });
        self.count_buffer();
        match pollster::block_on(scope.pop()) {
            Some(_) => Err(GpuError::OutOfMemory {
                what: what.to_owned(),
                bytes,
            }),
            None => Ok(GpuBuffer { raw }),
        }
    }
}

const IDLE: u8 = 0;
const PENDING: u8 = 1;
const READY: u8 = 2;
const FAILED: u8 = 3;

/// Asks for a mapping and reports its end through the returned flag.
fn request_map(raw: &wgpu::Buffer, mode: wgpu::MapMode, state: &Arc<AtomicU8>) {
    state.store(PENDING, Ordering::Release);
    let state = state.clone();
    raw.map_async(mode, .., move |result| {
        let end = if result.is_ok() { READY } else { FAILED };
        state.store(end, Ordering::Release);
    });
}

/// A buffer that host and device pass to each other.
#[derive(Debug)]
struct Shared {
    state: Arc<AtomicU8>,
    /// The submission that used it last.
    submission: Mutex<Option<wgpu::SubmissionIndex>>,
}

impl Shared {
    fn new() -> Self {
        Self {
            state: Arc::new(AtomicU8::new(IDLE)),
            submission: Mutex::new(None),
        }
    }

    fn used_by(&self, submission: &wgpu::SubmissionIndex) {
        *lock(&self.submission) = Some(submission.clone());
    }

    /// Drives the device until the mapping asked for has come to its end. Waits for the submission that used the buffer
    /// last and for no later one, so that the device goes on computing meanwhile. On the web the event loop drives it, so
    /// this only yields there.
    async fn until_mapped(&self, gpu: &Gpu) -> Result<(), GpuError> {
        while self.state.load(Ordering::Acquire) == PENDING {
            gpu.check_alive()?;
            let wait = wgpu::PollType::Wait {
                submission_index: lock(&self.submission).clone(),
                timeout: None,
            };
            gpu.device
                .poll(wait)
                .map_err(|e| GpuError::Lost(e.to_string()))?;
        }
        gpu.check_alive()?;
        match self.state.load(Ordering::Acquire) {
            READY => Ok(()),
            _ => Err(GpuError::Lost("a buffer could not be mapped".to_owned())),
        }
    }
}

/// A host-visible buffer that a recording copies results into; reused from step to step.
#[derive(Debug)]
pub struct Download {
    pub(super) raw: wgpu::Buffer,
    shared: Shared,
    bytes: u64,
}

impl Download {
    /// A download buffer of `bytes`.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`].
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self, GpuError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(Self {
            raw: gpu.create("download", padded(bytes), usage)?.raw,
            shared: Shared::new(),
            bytes,
        })
    }

    /// Notes the submission that copies into it.
    pub(super) fn used_by(&self, submission: &wgpu::SubmissionIndex) {
        self.shared.used_by(submission);
    }

    /// Waits for the submission that copied into it last and shows the bytes to `take`.
    ///
    /// # Errors
    /// [`GpuError::Lost`].
    pub async fn fetch<R>(&self, gpu: &Gpu, take: impl FnOnce(&[u8]) -> R) -> Result<R, GpuError> {
        request_map(&self.raw, wgpu::MapMode::Read, &self.shared.state);
        self.shared.until_mapped(gpu).await?;
        let view = self
            .raw
            .get_mapped_range(..self.bytes.next_multiple_of(4))
            .map_err(|e| GpuError::Lost(e.to_string()))?;
        let result = take(&view[..self.bytes as usize]);
        drop(view);
        self.raw.unmap();
        Ok(result)
    }
}

/// A host-visible buffer that feeds an input of a recording; mapped again after each step, so that a step allocates nothing.
#[derive(Debug)]
pub struct Staging {
    pub(super) raw: wgpu::Buffer,
    shared: Shared,
}

impl Staging {
    /// A staging buffer of `bytes`.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`].
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self, GpuError> {
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let raw = gpu.create("staging", padded(bytes), usage)?.raw;
        let shared = Shared::new();
        request_map(&raw, wgpu::MapMode::Write, &shared.state);
        Ok(Self { raw, shared })
    }

    /// Waits until the device no longer reads it, then copies `content` in.
    ///
    /// # Errors
    /// [`GpuError::Lost`].
    pub async fn fill(&self, gpu: &Gpu, content: &[u8]) -> Result<(), GpuError> {
        self.shared.until_mapped(gpu).await?;
        let mut view = self
            .raw
            .get_mapped_range_mut(..content.len() as u64)
            .map_err(|e| GpuError::Lost(e.to_string()))?;
        view.copy_from_slice(content);
        drop(view);
        self.raw.unmap();
        Ok(())
    }

    /// Makes it writable again once `submission`, which copies from it, is done.
    pub(super) fn recycle(&self, submission: &wgpu::SubmissionIndex) {
        self.shared.used_by(submission);
        request_map(&self.raw, wgpu::MapMode::Write, &self.shared.state);
    }
}
