// running_mean = (1 - momentum) running_mean + momentum mean
// running_var  = (1 - momentum) running_var  + momentum * max(1 / rstd^2 - eps, 0) * unbias
//
// Index map: one invocation = one channel. unbias = M / (M - 1), M the voxels behind each mean. The variance is taken back
// out of rstd: its error is eps(f32) * (variance + eps), harmless since it only ever serves as variance + eps.
// Accuracy: 3 roundings for the mean, 7 for the variance. Deterministic: no sums.
//
// A channel whose batch overflowed keeps its old statistics, as the optimiser skips such a step: one NaN would stay in
// an average for good. The test looks at the bits, since a compiler may assume that there is no infinity and no NaN.

struct Params {
    channels: u32,
    running_mean_offset: u32,
    running_var_offset: u32,
    mean_offset: u32,
    rstd_offset: u32,
    momentum: f32,
    eps: f32,
    unbias: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(2) var<storage, read_write> running_var: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> rstd: array<f32>;

const EXPONENT: u32 = 0x7f800000u;

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & EXPONENT) != EXPONENT;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= params.channels {
        return;
    }
    let keep = 1.0 - params.momentum;
    let m = params.running_mean_offset + c;
    let v = params.running_var_offset + c;
    let r = rstd[params.rstd_offset + c];
    let mu = mean[params.mean_offset + c];
    let variance = max(1.0 / (r * r) - params.eps, 0.0) * params.unbias;
    // rstd is 0 where the variance is infinite, and max may turn NaN into 0.
    if !is_finite(mu) || !is_finite(r) || !is_finite(variance) {
        return;
    }
    running_mean[m] = keep * running_mean[m] + params.momentum * mu;
    running_var[v] = keep * running_var[v] + params.momentum * variance;
}
