// norm/backward_sums with (leaky, parametric) ReLU or without activation, for a CPU adapter with u64, which loads eight f32 as
// four u64 (src/ops/words.rs has the figures): partial sums of dz, of dz * xhat and with PER_CHANNEL, PReLU, of dy * z where z <= 0.
//
// With d = x - mean, z = gamma rstd d + beta, and n = dy where z <= 0, 0 elsewhere, each sum is a combination of four that need no
// multiplication by the slope: dz = dy + (slope - 1) n, so
//   sum(dz) = sum(dy) + (slope - 1) sum(n), sum(dz xhat) = rstd (sum(dy d) + (slope - 1) sum(n d)),
//   sum over z <= 0 of dy z = gamma rstd sum(n d) + beta sum(n).
//
// Index map: one workgroup = LANES * STEPS consecutive words of one channel, lane l taking l, l + LANES, ...; x of the grid
// counts blocks, y channels, z samples. An invocation adds up to STEPS words, four streams each, and stores at
// (plane * N * C + n * C + c) * slots + its number, as norm/backward_sums. Deterministic: fixed order.

const PER_CHANNEL: u32 = 0;
const LANES: u32 = 256;
const STEPS: u32 = 16;

struct Params {
    x_offset: u32,
    x_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    packs: u32,
    channels: u32,
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
    slots: u32,
    plane: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u64>>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> rstd: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read> beta: array<f32>;
@group(0) @binding(6) var<storage, read> slopes: array<f32>;
@group(0) @binding(7) var<storage, read> dy: array<vec4<u64>>;
@group(0) @binding(8) var<storage, read_write> partials: array<vec4<f32>>;

fn even(word: vec4<u64>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word));
}

fn odd(word: vec4<u64>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word >> vec4<u32>(32u)));
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let slot = group.x * LANES + lane;
    if slot >= params.slots {
        return;
    }
    let c = group.y;
    let n = group.z;
    let stat = c / params.per_stat;
    let m = mean[params.mean_offset + n * params.mean_batch + stat];
    let r = rstd[params.rstd_offset + n * params.rstd_batch + stat];
    let scale = gamma[params.gamma_offset + n * params.gamma_batch + c] * r;
    let b = beta[params.beta_offset + n * params.beta_batch + c];
    var slope = params.slope;
    if PER_CHANNEL == 1u {
        slope = slopes[params.slope_offset + c];
    }
    let from_x = params.x_offset + n * params.x_batch + c * params.packs;
    let from_dy = params.dy_offset + n * params.dy_batch + c * params.packs;
    let first = group.x * LANES * STEPS + lane;
    var all = vec4(0.0);
    var all_d = vec4(0.0);
    var negative = vec4(0.0);
    var negative_d = vec4(0.0);
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        let values = x[from_x + i];
        let upstream = dy[from_dy + i];
        // unroll
        for (var half: u32 = 0u; half < 2u; half++) {
            var d = even(values) - m;
            var up = even(upstream);
            if half == 1u {
                d = odd(values) - m;
                up = odd(upstream);
            }
            let off = select(vec4(0.0), up, fma(vec4(scale), d, vec4(b)) <= vec4(0.0));
            all += up;
            all_d = fma(up, d, all_d);
            negative += off;
            negative_d = fma(off, d, negative_d);
        }
    }
    let at = (n * params.channels + c) * params.slots + slot;
    partials[at] = all + (slope - 1.0) * negative;
    partials[params.plane + at] = r * (all_d + (slope - 1.0) * negative_d);
    if PER_CHANNEL == 1u {
        partials[2u * params.plane + at] = scale * negative_d + b * negative;
    }
}
