// Mean and sum of squared deviations of each channel of each sample, as partial results.
//
// Each invocation runs Welford's recurrence over up to STEPS packs of one channel, each component of a pack a stream of
// its own: count += 1, d = x - shift - mean, mean += d / count, m2 += d * (x - shift - mean). It stores (count, mean, m2),
// which norm/merge_moments and norm/finish_moments merge in a fixed tree. The shift is the first of the elements that
// share statistics: Welford alone rounds a running mean of the size of x, and so loses digits of the variance as soon as
// the mean is large against the deviation.
//
// Index map: one workgroup = LANES * STEPS consecutive packs of one channel, lane l taking l, l + LANES, ...; x of the
// grid counts blocks, y channels, z samples. `partials` holds three planes (count, mean, m2); the partial result s < slots
// of (n, c) lies at n * partial_n + c * partial_c + s of each, so that what is merged later lies side by side.
// `x_scalars` is x once more, for the shift.
// Accuracy: the relative error of the variance is O(eps) whatever the mean; never E[x^2] - E[x]^2.
// Deterministic: fixed order. Rejected: a tree in workgroup memory, whose accesses cost as much as the data itself on a
// CPU device (56 to 120 cycles for 8 lanes, against 24 a component of a vec4 load).

alias Pack = f32;
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
@group(0) @binding(1) var<storage, read> x: array<Pack>;
@group(0) @binding(2) var<storage, read> x_scalars: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<Pack>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group.x;
    let slot = block * LANES + lane;
    if slot >= params.slots {
        return;
    }
    let n = group.z;
    let c = group.y;
    let start = params.x_offset + n * params.x_batch + c * params.packs;
    let shift_at = params.shift_offset + n * params.shift_batch + c / params.per_stat * params.shift_stat;
    let shift = Pack(x_scalars[shift_at]);
    let first = block * LANES * STEPS + lane;
    var count = 0.0;
    var mean = Pack(0.0);
    var m2 = Pack(0.0);
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        count += 1.0;
        let value = x[start + i] - shift;
        let d = value - mean;
        mean += d * (1.0 / count);
        m2 += d * (value - mean);
    }
    let at = n * params.partial_n + c * params.partial_c + slot;
    partials[at] = Pack(count);
    partials[params.plane + at] = mean;
    partials[2u * params.plane + at] = m2;
}
