// y = z where z > 0, slope z elsewhere, z = gamma * (x - mean) * rstd + beta: norm/apply with (leaky, parametric) ReLU or without
// activation, for a CPU adapter with u64, which moves eight f32 as four u64 (src/ops/words.rs has the figures).
//
// Index map: one workgroup = LANES * STEPS consecutive words of one channel, lane l taking l, l + LANES, ...; x of the grid
// counts blocks, y channels, z samples. PER_CHANNEL takes the slope from slopes[c], else another buffer stands there and is not
// read. IN_PLACE takes x from y, and another buffer stands at the binding of x. x - mean first, so that a large mean costs no
// digits; NaN stays NaN.
// Saves nothing. Accuracy: a few roundings. Deterministic: each output has one writer.

const PER_CHANNEL: u32 = 0;
const IN_PLACE: u32 = 0;
const LANES: u32 = 256;
const STEPS: u32 = 8;

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
    per_stat: u32,
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
@group(0) @binding(1) var<storage, read> x: array<vec4<u64>>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> rstd: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read> beta: array<f32>;
@group(0) @binding(6) var<storage, read> slopes: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<vec4<u64>>;

fn even(word: vec4<u64>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word));
}

fn odd(word: vec4<u64>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word >> vec4<u32>(32u)));
}

fn join(low: vec4<f32>, high: vec4<f32>) -> vec4<u64> {
    return vec4<u64>(bitcast<vec4<u32>>(low)) | (vec4<u64>(bitcast<vec4<u32>>(high)) << vec4<u32>(32u));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * LANES * STEPS + lane;
    if first >= params.packs {
        return;
    }
    let c = group.y;
    let n = group.z;
    let stat = c / params.per_stat;
    let m = mean[params.mean_offset + n * params.mean_batch + stat];
    let r = rstd[params.rstd_offset + n * params.rstd_batch + stat];
    let scale = vec4(gamma[params.gamma_offset + n * params.gamma_batch + c] * r);
    let b = vec4(beta[params.beta_offset + n * params.beta_batch + c]);
    var slope = params.slope;
    if PER_CHANNEL == 1u {
        slope = slopes[params.slope_offset + c];
    }
    let from_x = params.x_offset + n * params.x_batch + c * params.packs;
    let to_y = params.y_offset + n * params.y_batch + c * params.packs;
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        var word: vec4<u64>;
        if IN_PLACE == 1u {
            word = y[to_y + i];
        } else {
            word = x[from_x + i];
        }
        let low = fma(scale, even(word) - m, b);
        let high = fma(scale, odd(word) - m, b);
        y[to_y + i] = join(
            select(low, slope * low, low <= vec4(0.0)),
            select(high, slope * high, high <= vec4(0.0)),
        );
    }
}
