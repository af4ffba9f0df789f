// dx[i] = sum over the outputs o that touch i of weight(o, i) * dy[o], along one axis: a third of the gradient of resampling.
//
// p(o) = max(0, o * mul + add) / den in whole numbers, as in linear and nearest. LINEAR 1: o touches floor(p) with 1 - r and the
// next voxel (the last one again at the end) with r, the remainder / den; 0: floor(p) with 1. The range of o comes from
// turning p around.
// Index map: one invocation = one element of dx [outer][in_len][inner], which gathers, so each has one writer and needs no
// atomics; a workgroup takes 256 consecutive ones of a sample, (x, y) of the grid count workgroups, z is the sample.
// dx is written `=`. Accuracy: a sequential sum by rising o. Deterministic.
// Rejected: all three axes in one gather; doubling a volume then reads 64 values an element instead of 12, and growing from
// one voxel makes one invocation add up the volume.

const LINEAR: u32 = 1u;

struct Params {
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    per_sample: u32,
    inner: u32,
    in_len: u32,
    out_len: u32,
    mul: u32,
    add: i32,
    den: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

// The smallest o with p(o) * den >= `bound`, at most out_len; everything above 0 is reached before the end.
fn first_at(bound: i32) -> u32 {
    let ahead = bound - params.add;
    if ahead <= 0 {
        return 0u;
    }
    let step = max(params.mul, 1u);
    return min((u32(ahead) + step - 1u) / step, params.out_len);
}

fn weight(o: u32, at: u32) -> f32 {
    let position = u32(max(i32(o * params.mul) + params.add, 0));
    let low = position / params.den;
    if LINEAR == 0u {
        return select(0.0, 1.0, low == at);
    }
    let rest = position % params.den;
    let high = min(low + 1u, params.in_len - 1u);
    let from_low = select(0.0, f32(params.den - rest) / f32(params.den), low == at);
    return from_low + select(0.0, f32(rest) / f32(params.den), high == at);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if i >= params.per_sample {
        return;
    }
    let n = group.z;
    let line = i / params.inner;
    let at = line % params.in_len;
    let start = line / params.in_len * params.out_len * params.inner + i % params.inner;
    let base = params.dy_offset + n * params.dy_batch + start;
    // Positions below 0 count for the first voxel, those behind the last voxel for the last.
    var first = 0u;
    if at > 0u {
        first = first_at(i32((at - LINEAR) * params.den));
    }
    var last = params.out_len;
    if at + 1u < params.in_len {
        last = first_at(i32((at + 1u) * params.den));
    }
    var sum = 0.0;
    for (var o = first; o < last; o++) {
        sum += weight(o, at) * dy[base + o * params.inner];
    }
    dx[params.dx_offset + n * params.dx_batch + i] = sum;
}
