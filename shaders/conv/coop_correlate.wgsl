// y[o, out_first + p * out_step] = bias[o] + sum over c, t of w[t, c, o] x[c, first + p * step + t * tap_step]
//
// The correlation of gemm_correlate.wgsl by cooperative matrices (tensor cores, simdgroup matrices): a subgroup multiplies
// EDGE x EDGE matrices of `Operand` and adds up in f32. Operands are as x is stored, so f32 loses nothing and f16 is
// multiplied as it lies.
// Index map: a workgroup computes a box of 16 rows of EDGE voxels (box_d * box_h rows, counted along h first), for 32 *
// COLUMNS channels; boxes and channels are counted by (x, y) of the grid, channels fastest, z is the sample. Of its PARTS,
// 4 a column of channels, each is one subgroup's: 4 rows x 32 channels. The subgroups go through the parts in rounds, all
// together, so that any number and size of subgroups computes the same: with fewer subgroups than parts the tile is staged
// once a round; with more of them, the rest repeat the last part, since products want uniform control flow.
// Per plane of taps (or row of taps, where a plane's voxels would not fit), and per EDGE channels, the voxels that the box
// sees go through workgroup memory, [voxel][channel]: a matrix of EDGE voxels in a row begins at any voxel, so one copy
// serves all taps, and a stride along W is the distance of its columns. What a voxel's address is, is decoded once for all
// channels. The packed weight of gemm_pack.wgsl is read where it lies.
// Saves nothing. Written `=`. Accuracy: f32 sums whose order within a matrix is the device's, so results may differ in the
// last bits between adapters; on one adapter they are the same each time.
// Run with 8 x 8 matrices, of f16 and of f32, on lavapipe of Mesa 26.2, whose cooperative matrices are a CPU's loops, and with
// 8 x 8 and 16 x 16 elsewhere with the matrices written out in WGSL. Never run on a GPU, nor by Metal. Not tried: rows of
// the tile with a gap against bank conflicts, the weight in workgroup memory.

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
    y_h: u32,
    y_w: u32,
    w_first: u32,
    w_row: u32,
    w_rows: u32,
    bias_offset: u32,
    has_bias: u32,
    channels_in: u32,
    channels_out: u32,
    steps: u32,
    tiles_out: u32,
    count_d: u32,
    count_h: u32,
    count_w: u32,
    boxes_h: u32,
    boxes_w: u32,
    box_d: u32,
    box_h: u32,
    taps_d: u32,
    taps_h: u32,
    taps_w: u32,
    stage_taps: u32,
    first_d: i32,
    first_h: i32,
    first_w: i32,
    step_d: u32,
    step_h: u32,
    step_w: u32,
    tap_step_d: u32,
    tap_step_h: u32,
    tap_step_w: u32,
    halo_h: u32,
    halo_w: u32,
    halo_unit_h: u32,
    halo_step_h: u32,
    halo_tap_h: u32,
    out_first_d: u32,
    out_first_h: u32,
    out_first_w: u32,
    out_step_d: u32,
    out_step_h: u32,
    out_step_w: u32,
}

const EDGE: u32 = 8u;
const COLUMNS: u32 = 1u;
const HALO: u32 = 320u;
const PARTS: u32 = 4u * COLUMNS;
const THREADS: u32 = 32u * PARTS;
const ROWS: u32 = 4u;
const OUT: u32 = 32u / EDGE;
const OUTSIDE: u32 = 0xffffffffu;

alias Operand = f32; // as stored in x
alias Weights = coop_mat8x8<Operand, A>;
alias Voxels = coop_mat8x8<Operand, B>;
alias Sums = coop_mat8x8<f32, C>;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> places: array<u32, HALO>;
var<workgroup> voxels: array<Operand, HALO * EDGE>;
var<workgroup> results: array<f32, PARTS * EDGE * EDGE>;

// Where channel 0 of a voxel of the tile lies in x.
fn place(v: u32, box_first: vec3<u32>, tap_d: u32, tap_h: u32, n: u32) -> u32 {
    let at = vec3(v / (params.halo_h * params.halo_w), v / params.halo_w % params.halo_h, v % params.halo_w);
    let p = vec3<i32>(
        vec3((box_first.x + at.x) * params.step_d + tap_d * params.tap_step_d,
            box_first.y * params.step_h + at.y * params.halo_unit_h + tap_h * params.tap_step_h,
            box_first.z * params.step_w + at.z),
    ) + vec3(params.first_d, params.first_h, params.first_w);
    let extent = vec3<i32>(vec3(params.x_d, params.x_h, params.x_w));
    let inside = all(p >= vec3(0)) && all(p < extent);
    let found = params.x_offset + n * params.x_batch + u32((p.x * extent.y + p.y) * extent.z + p.z);
    return select(OUTSIDE, found, inside);
}

// The lanes of a subgroup write the voxels of row p and the EDGE channels from o_first on that lie in their results.
fn write_rows(results_first: u32, o_first: u32, p: vec3<u32>, n: u32, lane: u32, lanes: u32) {
    for (var e = lane; e < EDGE * EDGE; e += lanes) {
        let o = o_first + e / EDGE;
        let q = p + vec3(0u, 0u, e % EDGE);
        if o < params.channels_out && all(q < vec3(params.count_d, params.count_h, params.count_w)) {
            var b = 0.0;
            if params.has_bias != 0u {
                b = bias[params.bias_offset + o];
            }
            let r = q * vec3(params.out_step_d, params.out_step_h, params.out_step_w)
                + vec3(params.out_first_d, params.out_first_h, params.out_first_w);
            y[params.y_offset + n * params.y_batch + o * params.y_channel
                + (r.x * params.y_h + r.y) * params.y_w + r.z] = results[results_first + e] + b;
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    let tile = group.y * groups.x + group.x;
    let tile_out = tile % params.tiles_out;
    let block = tile / params.tiles_out;
    let box_first = vec3(
        block / (params.boxes_h * params.boxes_w) * params.box_d,
        block / params.boxes_w % params.boxes_h * params.box_h,
        block % params.boxes_w * EDGE,
    );
    let n = group.z;
    let staged = params.box_d * params.halo_h * params.halo_w;

    for (var first_part = 0u; first_part < PARTS; first_part += subgroups) {
        let is_needed = first_part + subgroup < PARTS;
        let part = min(first_part + subgroup, PARTS - 1u);
        let o_first = (tile_out * COLUMNS + part / 4u) * 32u;
        // The first voxel of each row, in the box and in the tile.
        var rows: array<vec3<u32>, ROWS>;
        var row_at: array<u32, ROWS>;
        // unroll
        for (var i: u32 = 0u; i < ROWS; i++) {
            let row = part % 4u * ROWS + i;
            rows[i] = vec3(row / params.box_h, row % params.box_h, 0u);
            row_at[i] = (rows[i].x * params.halo_h + rows[i].y * params.halo_step_h) * params.halo_w * EDGE;
        }
        var sums: array<Sums, ROWS * OUT>;
        for (var tap_d = 0u; tap_d < params.taps_d; tap_d++) {
            for (var tap_h = 0u; tap_h < params.taps_h; tap_h += params.stage_taps) {
                for (var v = invocation; v < staged; v += THREADS) {
                    places[v] = place(v, box_first, tap_d, tap_h, n);
                }
                for (var s = 0u; s < params.steps; s++) {
                    workgroupBarrier();
                    for (var v = invocation / 4u; v < staged; v += THREADS / 4u) {
                        let first = places[v];
                        for (var k = invocation % 4u; k < EDGE; k += 4u) {
                            let c = s * EDGE + k;
                            var value = 0.0;
                            if first != OUTSIDE && c < params.channels_in {
                                value = x[first + c * params.x_channel];
                            }
                            voxels[v * EDGE + k] = Operand(value);
                        }
                    }
                    workgroupBarrier();
                    for (var t = 0u; t < params.stage_taps * params.taps_w; t++) {
                        let tap = (tap_d * params.taps_h + tap_h) * params.taps_w + t;
                        let w_at = params.w_first + (tap * params.w_rows + s * EDGE) * params.w_row + o_first;
                        let shift = t / params.taps_w * params.halo_tap_h * params.halo_w
                            + t % params.taps_w * params.tap_step_w;
                        var weights: array<Weights, OUT>;
                        // unroll
                        for (var j: u32 = 0u; j < OUT; j++) {
                            weights[j] = coopLoad<Weights>(&w[w_at + j * EDGE], params.w_row);
                        }
                        // unroll
                        for (var i: u32 = 0u; i < ROWS; i++) {
                            let row = coopLoad<Voxels>(&voxels[row_at[i] + shift * EDGE], params.step_w * EDGE);
                            // unroll
                            for (var j: u32 = 0u; j < OUT; j++) {
                                sums[i * OUT + j] = coopMultiplyAdd(weights[j], row, sums[i * OUT + j]);
                            }
                        }
                    }
                }
            }
        }
        // unroll
        for (var i: u32 = 0u; i < ROWS; i++) {
            // unroll
            for (var j: u32 = 0u; j < OUT; j++) {
                workgroupBarrier();
                coopStoreT(sums[i * OUT + j], &results[part * EDGE * EDGE], EDGE);
                workgroupBarrier();
                if is_needed {
                    write_rows(part * EDGE * EDGE, o_first + j * EDGE, box_first + rows[i], n, lane, lanes);
                }
            }
        }
    }
}
