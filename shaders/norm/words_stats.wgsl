// Mean and sum of squared deviations of each channel of each sample, as partial results: norm/stats for a CPU adapter with
// u64, which loads eight f32 as four u64 (src/ops/words.rs has the figures).
//
// Each invocation takes up to STEPS words of one channel, each place in a word a stream of its own, and adds up d = v - K and d^2
// with K the first value of the stream: mean = K + sum(d) / n, m2 = sum(d^2) - sum(d)^2 / n. K is one of the n values, so
// that n (K - mean)^2 <= n m2, sum(d^2) <= (n + 1) m2, and the subtraction costs at most that factor, n <= STEPS: this is safe
// where the same with one shift for all is not. The eight streams, equally long, become four by the rule of norm/merge_moments.
//
// Index map: one workgroup = LANES * STEPS consecutive words of one channel, lane l taking l, l + LANES, ...; x of the grid
// counts blocks, y channels, z samples. `partials` as in norm/stats: three planes (count, mean - shift, m2), four streams each.
// Accuracy: the relative error of the variance is at most 2 STEPS eps. Deterministic: fixed order.

const LANES: u32 = 256;
const STEPS: u32 = 16;

struct Params {
    x_offset: u32,
    x_batch: u32,
    packs: u32,
    per_stat: u32,
    shift_offset: u32,
    shift_batch: u32,
    shift_stat: u32,
    slots: u32,
    partial_n: u32,
    partial_c: u32,
    plane: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u64>>;
@group(0) @binding(2) var<storage, read> x_scalars: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<vec4<f32>>;

fn even(word: vec4<u64>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word));
}

fn odd(word: vec4<u64>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word >> vec4<u32>(32u)));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let slot = group.x * LANES + lane;
    if slot >= params.slots {
        return;
    }
    let c = group.y;
    let n = group.z;
    let start = params.x_offset + n * params.x_batch + c * params.packs;
    let shift = x_scalars[params.shift_offset + n * params.shift_batch + c / params.per_stat * params.shift_stat];
    let first = group.x * LANES * STEPS + lane;
    let word = x[start + first];
    let k = even(word);
    let l = odd(word);
    var sum_k = vec4(0.0);
    var sum_l = vec4(0.0);
    var squares_k = vec4(0.0);
    var squares_l = vec4(0.0);
    var count = 1.0;
    for (var s = 1u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        count += 1.0;
        let next = x[start + i];
        let d = even(next) - k;
        let e = odd(next) - l;
        sum_k += d;
        sum_l += e;
        squares_k = fma(d, d, squares_k);
        squares_l = fma(e, e, squares_l);
    }
    let inverse = 1.0 / count;
    let mean_k = k - shift + sum_k * inverse;
    let mean_l = l - shift + sum_l * inverse;
    let m2 = max(squares_k - sum_k * sum_k * inverse, vec4(0.0)) + max(squares_l - sum_l * sum_l * inverse, vec4(0.0));
    let apart = mean_l - mean_k;
    let at = n * params.partial_n + c * params.partial_c + slot;
    partials[at] = vec4(2.0 * count);
    partials[params.plane + at] = mean_k + 0.5 * apart;
    partials[2u * params.plane + at] = m2 + 0.5 * count * apart * apart;
}
