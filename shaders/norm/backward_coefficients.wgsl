// What norm/backward_dx needs of each channel of each sample, in two vec4:
//   (mean, rstd, gamma, beta) and (slope, a, b, 0) with
//   a = sum(gamma sum(dz)) / M, b = sum(gamma sum(dz xhat)) / M over the rows (n, c) that share these statistics.
//
// `totals` holds sum(dz) and then sum(dz xhat) of all rows n * C + c. Index map: one invocation = one row. The rows that
// share its statistics are first + k * stride, k < members: samples of a channel (batch), or channels of a group.
// inverse_m is 1 / M, and 0 where the statistics are constants (running statistics), which leaves no path through them.
//
// Reads what forward saved: mean and rstd. Accuracy: a sequential sum of `members` products, at most N or the channels of a
// group, and one rounding more. Deterministic: each row has one writer, which adds in the order of k.

const KIND: u32 = 0;
const PRELU: u32 = 5;

struct Params {
    rows: u32,
    channels: u32,
    per_stat: u32,
    over_batch: u32,
    members: u32,
    inverse_m: f32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    gamma_offset: u32,
    gamma_batch: u32,
    beta_offset: u32,
    beta_batch: u32,
    slope_offset: u32,
    slope: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> totals: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> rstd: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read> beta: array<f32>;
@group(0) @binding(6) var<storage, read> slopes: array<f32>;
@group(0) @binding(7) var<storage, read_write> coefficients: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x;
    if row >= params.rows {
        return;
    }
    let n = row / params.channels;
    let c = row % params.channels;
    let stat = c / params.per_stat;
    var first = n * params.channels + stat * params.per_stat;
    var stride = 1u;
    if params.over_batch == 1u {
        first = c;
        stride = params.channels;
    }
    var a = 0.0;
    var b = 0.0;
    for (var k = 0u; k < params.members; k++) {
        let other = first + k * stride;
        let sample = other / params.channels;
        let g = gamma[params.gamma_offset + sample * params.gamma_batch + other % params.channels];
        a += g * totals[other];
        b += g * totals[params.rows + other];
    }
    var slope = params.slope;
    if KIND == PRELU {
        slope = slopes[params.slope_offset + c];
    }
    coefficients[2u * row] = vec4<f32>(
        mean[params.mean_offset + n * params.mean_batch + stat],
        rstd[params.rstd_offset + n * params.rstd_batch + stat],
        gamma[params.gamma_offset + n * params.gamma_batch + c],
        beta[params.beta_offset + n * params.beta_batch + c],
    );
    coefficients[2u * row + 1u] = vec4<f32>(slope, a * params.inverse_m, b * params.inverse_m, 0.0);
}
