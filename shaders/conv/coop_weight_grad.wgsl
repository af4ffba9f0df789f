// partial[s, o, (c, k)] = sum over the voxels p of part s of dy[n, o, p] x[n, c, p * stride + k * dilation - padding]
//
// The weight gradient of gemm_weight_grad.wgsl by cooperative matrices: a subgroup multiplies EDGE x EDGE matrices of
// `Operand`, of x by (channel, voxel) and of dy by (voxel, channel), and adds up in f32. Operands are as x and dy are stored.
// Saved: nothing but x. gemm_parts.wgsl adds up the parts (one part writes dw itself). Written `=`.
// Index map: x and y of the grid count what a workgroup computes of dw, z the parts. Along y 32 output channels; along x up
// to SLOTS * PARTS pairs of a block of EDGE input channels and a tap: taps of one group (all, a plane or a row), and as many
// blocks as fit. Pair i * PARTS + part is number i of subgroup `part`, which keeps 32 / EDGE matrices of sums for each. The
// subgroups go through the parts in rounds, as those of coop_correlate.wgsl do, so that any number and size of them computes
// the same.
// A part is a run of steps. A step takes box_h rows of EDGE voxels of one plane of dy; steps count planes first, then boxes of a
// plane, then samples. What the taps see of x lies in workgroup memory, [block][plane][row][voxel][channel], once for all
// of them: a matrix of EDGE voxels in a row begins at any voxel. Along D it is a ring, so that a step loads the planes that
// the one before it has not seen. Where a row of x lies is decoded once a column of steps. Both operands go through
// workgroup memory: what is outside must be 0 on both sides, and a matrix begins at a multiple of 16 bytes, as a row of dy
// need not.
// Accuracy: f32 sums of voxels / parts products, whose order within a matrix is the device's, then of the parts. So results
// may differ in the last bits between adapters; on one adapter they are the same each time.
// Occupancy, bytes and operations are counted in docs/performance.md. Run with 8 x 8 matrices, of f16 and of f32, on lavapipe
// of Mesa 26.2, and with 8 x 8 and 16 x 16 elsewhere with the matrices written out in WGSL. Never run on a GPU, nor by Metal.

enable wgpu_cooperative_matrix;

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
    y_d: u32,
    y_h: u32,
    y_w: u32,
    out_offset: u32,
    out_row: u32,
    out_part: u32,
    channels_in: u32,
    channels_out: u32,
    steps: u32,
    steps_per_part: u32,
    boxes_h: u32,
    boxes_w: u32,
    box_h: u32,
    blocks: u32,
    tiles: u32,
    tap_groups: u32,
    tap_groups_h: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    taps_d: u32,
    taps_h: u32,
    stride_h: u32,
    stride_w: u32,
    padding_d: u32,
    padding_h: u32,
    padding_w: u32,
    dilation_d: u32,
    dilation_h: u32,
    unit_d: u32,
    unit_h: u32,
    unit_w: u32,
    step_d: u32,
    step_h: u32,
    step_w: u32,
    tap_d: u32,
    tap_h: u32,
    tap_w: u32,
    halo_d: u32,
    halo_h: u32,
    halo_w: u32,
}

const EDGE: u32 = 8u;
const HALO: u32 = 256u;
const PARTS: u32 = 8u;
const THREADS: u32 = 32u * PARTS;
const SLOTS: u32 = 4u;
const CHANNELS: u32 = 32u;
const OUT: u32 = CHANNELS / EDGE;
const ROWS: u32 = 4u;
const OUTSIDE: u32 = 0xffffffffu;

alias Operand = f32; // as stored in x
alias Voxels = coop_mat8x8<Operand, A>;
alias Gradients = coop_mat8x8<Operand, B>;
alias Sums = coop_mat8x8<f32, C>;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

var<workgroup> places: array<u32, HALO>;
var<workgroup> voxels: array<Operand, HALO * EDGE>;
var<workgroup> gradients: array<Operand, ROWS * CHANNELS * EDGE>;
var<workgroup> results: array<f32, PARTS * EDGE * EDGE>;

// Where voxel v of a kept plane, of the column whose first row and voxel are `corner`, lies in a plane of x.
fn place(v: u32, corner: vec2<u32>, tap_h: u32) -> u32 {
    let at = vec2(v / params.halo_w, v % params.halo_w);
    // Below 0 it wraps round to beyond the extent.
    let p = corner * vec2(params.stride_h, params.stride_w) + at * vec2(params.unit_h, params.unit_w)
        + vec2(tap_h * params.dilation_h, 0u) - vec2(params.padding_h, params.padding_w);
    return select(OUTSIDE, p.x * params.x_w + p.y, p.x < params.x_h && p.y < params.x_w);
}

// Kept plane q of the column, for all blocks, goes to its place in the ring.
fn stage_plane(q: u32, first_channel: u32, tap_d: u32, n: u32, invocation: u32) {
    let plane = params.halo_h * params.halo_w;
    let p = q * params.unit_d + tap_d * params.dilation_d - params.padding_d;
    for (var block = 0u; block < params.blocks; block++) {
        let into = (block * params.halo_d + q % params.halo_d) * plane;
        for (var v = invocation / 4u; v < plane; v += THREADS / 4u) {
            let found = places[v];
            for (var k = invocation % 4u; k < EDGE; k += 4u) {
                let c = first_channel + block * EDGE + k;
                var value = 0.0;
                if found != OUTSIDE && p < params.x_d && c < params.channels_in {
                    value = x[params.x_offset + n * params.x_batch + c * params.x_channel
                        + p * params.x_h * params.x_w + found];
                }
                voxels[(into + v) * EDGE + k] = Operand(value);
            }
        }
    }
}

// The box of plane z of dy, [row][channel][voxel].
fn stage_gradients(z: u32, corner: vec2<u32>, first_o: u32, n: u32, invocation: u32) {
    for (var e = invocation; e < params.box_h * CHANNELS * EDGE; e += THREADS) {
        let o = first_o + e / EDGE % CHANNELS;
        let p = corner + vec2(e / (EDGE * CHANNELS), e % EDGE);
        var value = 0.0;
        if o < params.channels_out && p.x < params.y_h && p.y < params.y_w {
            value = dy[params.y_offset + n * params.y_batch + o * params.y_channel
                + (z * params.y_h + p.x) * params.y_w + p.y];
        }
        gradients[e] = Operand(value);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    let taps = params.taps_d * params.taps_h * params.kernel_w;
    let tap_group = group.x / params.tiles % params.tap_groups;
    let first_tap = vec2(
        tap_group / params.tap_groups_h * params.taps_d,
        tap_group % params.tap_groups_h * params.taps_h,
    );
    let first_pair = group.x % params.tiles * SLOTS * PARTS;
    let pairs = min(params.blocks * taps - first_pair, SLOTS * PARTS);
    let first_channel = group.x / (params.tiles * params.tap_groups) * params.blocks * EDGE;
    let first_o = group.y * CHANNELS;
    let plane = params.halo_h * params.halo_w;
    let first = group.z * params.steps_per_part;
    let last = min(first + params.steps_per_part, params.steps);

    for (var first_part = 0u; first_part < PARTS; first_part += subgroups) {
        let is_needed = first_part + subgroup < PARTS;
        let part = min(first_part + subgroup, PARTS - 1u);
        // Of each pair of this part: where its voxels begin in plane 0, and the plane that its tap sees.
        var voxel_at: array<u32, SLOTS>;
        var plane_at: array<u32, SLOTS>;
        // unroll
        for (var i: u32 = 0u; i < SLOTS; i++) {
            let pair = first_pair + min(i * PARTS + part, pairs - 1u);
            let tap = pair % taps;
            plane_at[i] = tap / (params.taps_h * params.kernel_w) * params.tap_d;
            voxel_at[i] = pair / taps * params.halo_d * plane
                + tap / params.kernel_w % params.taps_h * params.tap_h * params.halo_w + tap % params.kernel_w * params.tap_w;
        }
        var sums: array<Sums, SLOTS * OUT>;
        for (var column = first / params.y_d; column * params.y_d < last; column++) {
            let n = column / (params.boxes_h * params.boxes_w);
            let corner = vec2(column / params.boxes_w % params.boxes_h * params.box_h, column % params.boxes_w * EDGE);
            let first_z = max(first, column * params.y_d) - column * params.y_d;
            let last_z = min(last - column * params.y_d, params.y_d);
            for (var v = invocation; v < plane; v += THREADS) {
                places[v] = place(v, corner, first_tap.y);
            }
            for (var z = first_z; z < last_z; z++) {
                workgroupBarrier();
                let seen = select(params.halo_d - min(params.halo_d, params.step_d), 0u, z == first_z);
                for (var q = seen; q < params.halo_d; q++) {
                    stage_plane(z * params.step_d + q, first_channel, first_tap.x, n, invocation);
                }
                stage_gradients(z, corner, first_o, n, invocation);
                workgroupBarrier();
                var at: array<u32, SLOTS>;
                // unroll
                for (var i: u32 = 0u; i < SLOTS; i++) {
                    at[i] = voxel_at[i] + (z * params.step_d + plane_at[i]) % params.halo_d * plane;
                }
                for (var r = 0u; r < params.box_h; r++) {
                    var of_dy: array<Gradients, OUT>;
                    // unroll
                    for (var j: u32 = 0u; j < OUT; j++) {
                        of_dy[j] = coopLoad<Gradients>(&gradients[(r * CHANNELS + j * EDGE) * EDGE], EDGE);
                    }
                    // unroll
                    for (var i: u32 = 0u; i < SLOTS; i++) {
                        let of_row = (at[i] + r * params.step_h * params.halo_w) * EDGE;
                        let of_x = coopLoad<Voxels>(&voxels[of_row], params.step_w * EDGE);
                        // unroll
                        for (var j: u32 = 0u; j < OUT; j++) {
                            sums[i * OUT + j] = coopMultiplyAdd(of_x, of_dy[j], sums[i * OUT + j]);
                        }
                    }
                }
            }
        }
        // unroll
        for (var i: u32 = 0u; i < SLOTS; i++) {
            let pair = first_pair + i * PARTS + part;
            let tap = pair % taps;
            let column = tap % params.kernel_w
                + ((first_tap.x + tap / (params.taps_h * params.kernel_w)) * params.kernel_h
                + first_tap.y + tap / params.kernel_w % params.taps_h) * params.kernel_w;
            // unroll
            for (var j: u32 = 0u; j < OUT; j++) {
                workgroupBarrier();
                coopStoreT(sums[i * OUT + j], &results[part * EDGE * EDGE], EDGE);
                workgroupBarrier();
                for (var e = lane; e < EDGE * EDGE; e += lanes) {
                    let c = first_channel + pair / taps * EDGE + e / EDGE;
                    let o = first_o + j * EDGE + e % EDGE;
                    if is_needed && i * PARTS + part < pairs && c < params.channels_in && o < params.channels_out {
                        partial[params.out_offset + group.z * params.out_part + o * params.out_row
                            + c * params.kernel_d * params.kernel_h * params.kernel_w + column] = results[part * EDGE * EDGE + e];
                    }
                }
            }
        }
    }
}
