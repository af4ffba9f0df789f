// y[o, out_first + p * out_step] = bias[o] + sum over c, t of w[t, c, o] x[c, first + p * step + t * tap_step]
//
// Convolution forward, and one class of its input gradient, as an implicit matrix product on a GPU: M = voxels p,
// N = output channels, K = taps x input channels. Zeros stand for voxels outside x. For the input gradient x is dy, w is
// packed backwards, and each residue of the voxels of dx by the stride is one dispatch with the taps that reach it, so
// no tap is tested in the loop. A transposed convolution with kernel = stride is such a set of classes of one tap each.
// Index map: 256 invocations compute 4 * MG * MV voxels x 4 * OG channels, each 4 * MV x 4 of them. Tiles are counted by
// (x, y) of the grid, channels fastest, so that neighbours read the same x; z is the sample. Per step, STEP channels at
// one tap go through workgroup memory: x gathered in vec4 of 4 voxels, w from its packed copy in vec4 of 4 channels.
// Saves nothing. Written `=`. Accuracy: one sequential f32 sum of taps * channels products. Deterministic.
// Rejected: K = channels x taps with taps fastest (as in w), which costs three divisions for every loaded number.

struct Params {
    x_offset: u32,
    x_batch: u32,
    x_channel: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    y_offset: u32,
    y_batch: u32,
    y_channel: u32,
    y_h: u32,
    y_w: u32,
    w_first: u32,
    bias_offset: u32,
    has_bias: u32,
    channels_in: u32,
    channels_out: u32,
    steps: u32,
    tiles_out: u32,
    count_d: u32,
    count_h: u32,
    count_w: u32,
    taps_d: u32,
    taps_h: u32,
    taps_w: u32,
    first_d: i32,
    first_h: i32,
    first_w: i32,
    step_d: i32,
    step_h: i32,
    step_w: i32,
    tap_step_d: i32,
    tap_step_h: i32,
    tap_step_w: i32,
    out_first_d: u32,
    out_first_h: u32,
    out_first_w: u32,
    out_step_d: u32,
    out_step_h: u32,
    out_step_w: u32,
}

const OG: u32 = 16u;
const MV: u32 = 2u;
const STEP: u32 = 16u;
const THREADS: u32 = 256u;
const MG: u32 = THREADS / OG;
const VECTORS: u32 = MG * MV;
const LOADS: u32 = STEP * VECTORS / THREADS;
const_assert LOADS * THREADS == STEP * VECTORS;
const_assert STEP * OG <= THREADS;
const OUTSIDE: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> x_tile: array<vec4<f32>, STEP * VECTORS>;
var<workgroup> w_tile: array<vec4<f32>, STEP * OG>;

fn voxel(i: u32) -> vec3<u32> {
    return vec3(i / (params.count_h * params.count_w), i / params.count_w % params.count_h, i % params.count_w);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = group.y * groups.x + group.x;
    let tile_out = tile % params.tiles_out;
    let first_voxel = tile / params.tiles_out * VECTORS * 4u;
    let voxels = params.count_d * params.count_h * params.count_w;
    let n = group.z;

    // The 4 voxels that this invocation loads, always the same ones, and the first of its channels.
    let load_vector = lane % VECTORS;
    let load_channel = lane / VECTORS;
    let step = vec3(params.step_d, params.step_h, params.step_w);
    let first = vec3(params.first_d, params.first_h, params.first_w);
    let extent = vec3<i32>(vec3(params.x_d, params.x_h, params.x_w));
    var corner: array<vec3<i32>, 4>;
    // unroll
    for (var e: u32 = 0u; e < 4u; e++) {
        let i = first_voxel + load_vector * 4u + e;
        corner[e] = select(vec3(-0x40000000), vec3<i32>(voxel(i)) * step + first, i < voxels);
    }

    let column = lane % MG;
    let row = lane / MG;
    var sums: array<vec4<f32>, 4u * MV>;
    for (var tz = 0u; tz < params.taps_d; tz++) {
        for (var ty = 0u; ty < params.taps_h; ty++) {
            for (var tx = 0u; tx < params.taps_w; tx++) {
                let shift = vec3<i32>(vec3(tz, ty, tx)) * vec3(params.tap_step_d, params.tap_step_h, params.tap_step_w);
                var at: array<u32, 4>;
                // unroll
                for (var e: u32 = 0u; e < 4u; e++) {
                    let p = corner[e] + shift;
                    let inside = all(p >= vec3(0)) && all(p < extent);
                    let place = u32((p.x * extent.y + p.y) * extent.z + p.z) + params.x_offset + n * params.x_batch;
                    at[e] = select(OUTSIDE, place, inside);
                }
                let tap = (tz * params.taps_h + ty) * params.taps_w + tx;
                for (var s = 0u; s < params.steps; s++) {
                    workgroupBarrier();
                    // unroll
                    for (var j: u32 = 0u; j < LOADS; j++) {
                        let k = load_channel + j * (THREADS / VECTORS);
                        let c = s * STEP + k;
                        var value = vec4(0.0);
                        // unroll
                        for (var e: u32 = 0u; e < 4u; e++) {
                            if at[e] != OUTSIDE && c < params.channels_in {
                                value[e] = x[at[e] + c * params.x_channel];
                            }
                        }
                        x_tile[k * VECTORS + load_vector] = value;
                    }
                    if lane < STEP * OG {
                        let k = (tap * params.steps + s) * STEP + lane / OG;
                        w_tile[lane] = w[params.w_first + (k * params.tiles_out + tile_out) * OG + lane % OG];
                    }
                    workgroupBarrier();
                    for (var k = 0u; k < STEP; k++) {
                        let b = w_tile[k * OG + row];
                        // unroll
                        for (var j: u32 = 0u; j < MV; j++) {
                            let a = x_tile[k * VECTORS + j * MG + column];
                            // unroll
                            for (var e: u32 = 0u; e < 4u; e++) {
                                sums[j * 4u + e] += a[e] * b;
                            }
                        }
                    }
                }
            }
        }
    }

    let o_first = (tile_out * OG + row) * 4u;
    // unroll
    for (var f: u32 = 0u; f < 4u; f++) {
        let o = o_first + f;
        if o < params.channels_out {
            var b = 0.0;
            if params.has_bias != 0u {
                b = bias[params.bias_offset + o];
            }
            // unroll
            for (var j: u32 = 0u; j < MV; j++) {
                // unroll
                for (var e: u32 = 0u; e < 4u; e++) {
                    let i = first_voxel + (j * MG + column) * 4u + e;
                    if i < voxels {
                        let p = voxel(i) * vec3(params.out_step_d, params.out_step_h, params.out_step_w)
                            + vec3(params.out_first_d, params.out_first_h, params.out_first_w);
                        y[params.y_offset + n * params.y_batch + o * params.y_channel
                            + (p.x * params.y_h + p.y) * params.y_w + p.z] = sums[j * 4u + e][f] + b;
                    }
                }
            }
        }
    }
}
