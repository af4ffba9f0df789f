// The last merge of the partial moments of each row: mean (with the shift of norm/stats put back), and rstd = 1 / sqrt(m2 / count + eps),
// or with DEVIATION its reciprocal.
//
// Index map: one invocation = one row = (n, g), g one of `groups` (channels, or groups of channels); it merges the row's
// `members` (count, mean, m2) in order by the rule of norm/merge_moments. One voxel has m2 = 0, so rstd = 1 / sqrt(eps).
// Accuracy: see norm/stats. Deterministic: fixed order.

const DEVIATION: u32 = 0;

struct Params {
    rows: u32,
    members: u32,
    channels: u32,
    shift_offset: u32,
    shift_batch: u32,
    shift_stat: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x;
    if row >= params.rows {
        return;
    }
    let plane = params.rows * params.members;
    var count = 0.0;
    var average = 0.0;
    var m2 = 0.0;
    for (var j = 0u; j < params.members; j++) {
        let at = row * params.members + j;
        let count_b = source[at];
        let d = source[plane + at] - average;
        let total = max(count + count_b, 1.0);
        let w = count_b / total;
        average += d * w;
        m2 += source[2u * plane + at] + d * d * count * w;
        count += count_b;
    }
    let n = row / params.channels;
    let c = row % params.channels;
    let shift = x[params.shift_offset + n * params.shift_batch + c * params.shift_stat];
    mean[params.mean_offset + n * params.mean_batch + c] = shift + average;
    var second = sqrt(m2 / count + params.eps);
    if DEVIATION == 0 {
        second = 1.0 / second;
    }
    rstd[params.rstd_offset + n * params.rstd_batch + c] = second;
}
