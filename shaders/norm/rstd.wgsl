// rstd = 1 / sqrt(variance + eps), channel by channel, for the running statistics of batch normalisation.
//
// Index map: one invocation = one channel. Saves nothing for backward: running statistics are constants to it.
// Accuracy: three roundings. Deterministic: one writer a channel, no sums.

struct Params {
    channels: u32,
    variance_offset: u32,
    rstd_offset: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> variance: array<f32>;
@group(0) @binding(2) var<storage, read_write> rstd: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= params.channels {
        return;
    }
    rstd[params.rstd_offset + c] = 1.0 / sqrt(variance[params.variance_offset + c] + params.eps);
}
