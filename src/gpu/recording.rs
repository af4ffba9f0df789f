//! A recording: dispatches with their bind groups, kept as data and encoded anew for each run.

use std::sync::Arc;

use super::{BufferRange, Download, Gpu, GpuBuffer, GpuError, Pipeline, Staging};

/// One dispatch, ready to encode.
#[derive(Debug)]
pub struct RecordedDispatch {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

impl RecordedDispatch {
    /// Binds `params` (a range of the program's uniform buffer: offset and bytes) at 0 and `storage` from 1 on.
    pub fn new(
        gpu: &Gpu,
        pipeline: Arc<Pipeline>,
        params: (&GpuBuffer, u64, u64),
        storage: &[BufferRange<'_>],
        workgroups: [u32; 3],
    ) -> Self {
        let (uniform, offset, size) = params;
        let block = wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &uniform.raw,
                offset,
                size: std::num::NonZeroU64::new(size),
            }),
        };
        let buffers = (1..)
            .zip(storage)
            .map(|(binding, range)| wgpu::BindGroupEntry {
                binding,
                resource: range.binding(),
            });
        let entries: Vec<_> = std::iter::once(block).chain(buffers).collect();
        let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        gpu.count_bind_group();
        Self {
            pipeline,
            bind_group,
            workgroups,
        }
    }
}

/// A copy between a host-visible buffer and a device buffer, beside the dispatches of one run.
#[derive(Clone, Copy)]
pub enum Transfer<'a> {
    /// Before the dispatches.
    Upload(&'a Staging, &'a GpuBuffer, u64),
    /// After the dispatches: source, byte offset in the source, target, byte offset in the target, bytes.
    Fetch(&'a GpuBuffer, u64, &'a Download, u64, u64),
}

/// The time of one dispatch on the device, in the order of the recording.
#[derive(Clone, Copy, Debug)]
pub struct DispatchTime {
    /// Milliseconds.
    pub ms: f64,
}

/// Dispatches in order.
#[derive(Debug, Default)]
pub struct Recording {
    dispatches: Vec<RecordedDispatch>,
}

impl Recording {
    /// An empty recording.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a dispatch.
    pub fn push(&mut self, dispatch: RecordedDispatch) {
        self.dispatches.push(dispatch);
    }

    /// Encodes uploads, all dispatches in one compute pass, and fetches; makes one submit. The uploads' staging
    /// buffers are recycled.
    ///
    /// # Errors
    /// [`GpuError::Lost`].
    pub fn run(&self, gpu: &Gpu, transfers: &[Transfer<'_>]) -> Result<(), GpuError> {
        gpu.check_alive()?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encode_uploads(&mut encoder, transfers);
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for dispatch in &self.dispatches {
                encode(&mut pass, dispatch);
            }
        }
        encode_fetches(&mut encoder, transfers);
        let submission = gpu.submit(encoder.finish());
        recycle(transfers, &submission);
        await_fetches(transfers, &submission);
        Ok(())
    }

    /// Like [`Recording::run`], with a timestamp around every dispatch; waits for the end.
    ///
    /// # Errors
    /// [`GpuError::Lost`]; [`GpuError::NoTimestamps`].
    pub async fn run_timed(
        &self,
        gpu: &Gpu,
        transfers: &[Transfer<'_>],
    ) -> Result<Vec<DispatchTime>, GpuError> {
        if !gpu.has_timestamps() {
            return Err(GpuError::NoTimestamps);
        }
        let mut times = Vec::with_capacity(self.dispatches.len());
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encode_uploads(&mut encoder, transfers);
        recycle(transfers, &gpu.submit(encoder.finish()));
        // A query set holds at most 4096 timestamps.
        for chunk in self.dispatches.chunks(2048) {
            times.extend(time_chunk(gpu, chunk).await?);
        }
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encode_fetches(&mut encoder, transfers);
        await_fetches(transfers, &gpu.submit(encoder.finish()));
        Ok(times)
    }
}

fn encode(pass: &mut wgpu::ComputePass<'_>, dispatch: &RecordedDispatch) {
    let [x, y, z] = dispatch.workgroups;
    pass.set_pipeline(&dispatch.pipeline.pipeline);
    pass.set_bind_group(0, &dispatch.bind_group, &[]);
    pass.dispatch_workgroups(x, y, z);
}

fn encode_uploads(encoder: &mut wgpu::CommandEncoder, transfers: &[Transfer<'_>]) {
    for transfer in transfers {
        if let Transfer::Upload(from, to, bytes) = transfer {
            encoder.copy_buffer_to_buffer(&from.raw, 0, &to.raw, 0, Some(*bytes));
        }
    }
}

fn encode_fetches(encoder: &mut wgpu::CommandEncoder, transfers: &[Transfer<'_>]) {
    for transfer in transfers {
        if let Transfer::Fetch(from, at, to, to_at, bytes) = transfer {
            encoder.copy_buffer_to_buffer(&from.raw, *at, &to.raw, *to_at, Some(*bytes));
        }
    }
}

fn recycle(transfers: &[Transfer<'_>], submission: &wgpu::SubmissionIndex) {
    for transfer in transfers {
        if let Transfer::Upload(staging, ..) = transfer {
            staging.recycle(submission);
        }
    }
}

fn await_fetches(transfers: &[Transfer<'_>], submission: &wgpu::SubmissionIndex) {
    for transfer in transfers {
        if let Transfer::Fetch(_, _, download, ..) = transfer {
            download.used_by(submission);
        }
    }
}

async fn time_chunk(gpu: &Gpu, chunk: &[RecordedDispatch]) -> Result<Vec<DispatchTime>, GpuError> {
    let count = 2 * chunk.len() as u32;
    let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
        label: Some("profile"),
        ty: wgpu::QueryType::Timestamp,
        count,
    });
    let bytes = u64::from(count) * 8;
    let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("profile"),
        size: bytes,
        usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let download = Download::new(gpu, bytes)?;
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for (i, dispatch) in (0u32..).zip(chunk) {
            pass.write_timestamp(&queries, 2 * i);
            encode(&mut pass, dispatch);
            pass.write_timestamp(&queries, 2 * i + 1);
        }
    }
    encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
    encoder.copy_buffer_to_buffer(&resolved, 0, &download.raw, 0, Some(bytes));
    download.used_by(&gpu.submit(encoder.finish()));
    let period_ms = f64::from(gpu.queue.get_timestamp_period()) * 1e-6;
    download
        .fetch(gpu, |content| {
            let ticks: Vec<u64> = content
                .chunks_exact(8)
                .map(bytemuck::pod_read_unaligned)
                .collect();
            ticks
                .chunks_exact(2)
                .map(|t| DispatchTime {
                    ms: t[1].saturating_sub(t[0]) as f64 * period_ms,
                })
                .collect()
        })
        .await
}
