// partial[s, o, c, k] = sum over the strips of part s of dy[n, o, p] x[n, c, p + k * dilation - padding]
//
// conv/weight_grad_lanes for stride 1 in the plane, on CPU-like adapters: a strip is eight voxels wide and as high as the image, and
// is walked row by row. Lanes are output channels. Each step loads one row of x of IC input channels, all lanes together, and
// spreads it by shuffles; it meets the KH rows of dy whose windows it lies in, of which one is new and the others are kept.
// So nothing is loaded twice along y, eight numbers are loaded at once, and the code is a quarter of that of a tile of 4x8.
// Index map: one workgroup = one subgroup of 8 = 8 * OCV output channels (blocks along x of the grid) x IC input
// channels (blocks along y) x one tap along z, for one part of the strips (both in z of the grid). GUARDED, x is the tensor
// itself, of the extents of dy and in rows of whole vec4: a row of a strip starts SHIFT columns before its window, and what lies
// outside is 0. Else x is a
// copy padded in y and x. Planes outside x are skipped. Channels beyond the end repeat the last one; nobody reads
// their sums. A tile of the parameters is a strip here, tiles_h its rows. Sums lie in `partial` as
// [part][tap z][block o][block c][c][tap y][o / 8][tap x][lane].
// Accuracy: sequential f32 sums of at most voxels / parts products, added up by weight_grad_parts.wgsl. Deterministic.
// Measured on lavapipe (2 cores, 8 lanes, 2026-11-22), ms of the 64^3 step's weight gradients, best of four, in turns: 423 where x is
// read where it lies, 494 from padded copies, which took a tenth of that and 8 MiB of scratch; 64->64 at 16^3 12.6 beside 15.8 of
// weight_grad_lanes from a copy, 128->128 at 8^3 9.2 (10.8). By the clock, both cores, 71 to 76 GFLOP/s from 16^3 on.
// Earlier, from copies, GFLOP by second of processor time: 5x5x5 16->16 at 32^3 36 where the general kernel reaches
// 1.6. Rejected: two and four rows a step (0.9 to 1.0 of the speed), 16 input channels (1.0), 32 output channels an
// invocation (1.0): the sums, which do not fit the registers, then cost what the loads save. Of the time 40 % are loads, though
// a step has but four.

struct Params {
    x_first: u32,
    x_batch: u32,
    x_channel: u32,
    x_plane: u32,
    x_row: u32,
    y_first: u32,
    y_batch: u32,
    y_channel: u32,
    y_plane: u32,
    y_row: u32,
    channels_in: u32,
    channels_out: u32,
    x_d: u32,
    y_d: u32,
    tiles_h: u32,
    tiles_w: u32,
    tiles: u32,
    tiles_per_part: u32,
    kernel_d: u32,
    stride_d: u32,
    padding_d: u32,
    dilation_d: u32,
}

const OCV: u32 = 2u;
const IC: u32 = 8u;
const KH: u32 = 3u;
const KW: u32 = 3u;
const LANES: u32 = 8u;
const WIDTH: u32 = 8u + KW - 1u;
const GUARDED: u32 = 0u;
// Guarded, a window lies around its voxel, and a row of a strip begins with the vec4 before it.
const BEFORE_H: u32 = GUARDED * (KH / 2u);
const SHIFT: u32 = GUARDED * (4u - KW / 2u);
// vec4 of a row of x under the windows of a strip.
const QUADS: u32 = (SHIFT + WIDTH + 3u) / 4u;
const LOADS: u32 = (IC * QUADS + LANES - 1u) / LANES;
// Vectors of the taps along x.
const TAPS: u32 = (KW + 3u) / 4u;
const SUMS: u32 = IC * KH * OCV;
// Vectors of a row of dy.
const ROW: u32 = 2u * OCV;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> dy: array<mat2x4<f32>>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tap_z = group.z % params.kernel_d;
    let part = group.z / params.kernel_d;
    let first_o = group.x * LANES * OCV + lane;
    let first_c = group.y * IC;

    var x_at: array<u32, LOADS>;
    var x_column: array<u32, LOADS>;
    // unroll
    for (var j: u32 = 0u; j < LOADS; j++) {
        let t = min(j * LANES + lane, IC * QUADS - 1u);
        let c = min(first_c + t / QUADS, params.channels_in - 1u);
        x_column[j] = t % QUADS - GUARDED;
        x_at[j] = params.x_first + c * params.x_channel + x_column[j];
    }
    var y_at: array<u32, OCV>;
    // unroll
    for (var o: u32 = 0u; o < OCV; o++) {
        y_at[o] = params.y_first + min(first_o + o * LANES, params.channels_out - 1u) * params.y_channel;
    }

    var sums: array<vec4<f32>, SUMS * TAPS>;
    let first = part * params.tiles_per_part;
    let last = min(first + params.tiles_per_part, params.tiles);
    for (var strip = first; strip < last; strip++) {
        let column = strip % params.tiles_w;
        let plane = strip / params.tiles_w % params.y_d;
        let n = strip / (params.tiles_w * params.y_d);
        let z = plane * params.stride_d + tap_z * params.dilation_d - params.padding_d;
        // Below 0 wraps around to beyond the end.
        if z >= params.x_d {
            continue;
        }
        let x_plane = n * params.x_batch + z * params.x_plane + 2u * column;
        let y_strip = n * params.y_batch + plane * params.y_plane + column;
        // Rows of dy, the newest first.
        var dys: array<vec4<f32>, KH * ROW>;
        for (var row = 0u; row < params.tiles_h + KH - 1u; row++) {
            // unroll
            for (var k: u32 = 1u; k < (KH - 1u) * ROW + 1u; k++) {
                dys[KH * ROW - k] = dys[(KH - 1u) * ROW - k];
            }
            let is_there = vec4(row < params.tiles_h);
            let y_row = y_strip + min(row, params.tiles_h - 1u) * params.y_row;
            // unroll
            for (var o: u32 = 0u; o < OCV; o++) {
                let word = dy[y_at[o] + y_row];
                dys[2u * o] = select(vec4(0.0), word[0], is_there);
                dys[2u * o + 1u] = select(vec4(0.0), word[1], is_there);
            }
            // Before the near border rows and columns wrap round to huge numbers, which lie beyond the far one as well.
            let y = row - BEFORE_H;
            let x_row = x_plane + y * params.x_row;
            var xs: array<vec4<f32>, LOADS>;
            // unroll
            for (var j: u32 = 0u; j < LOADS; j++) {
                if GUARDED == 0u || y < params.tiles_h && 2u * column + x_column[j] < params.x_row {
                    xs[j] = x[x_at[j] + x_row];
                } else {
                    xs[j] = vec4(0.0);
                }
            }

            // unroll
            for (var c: u32 = 0u; c < IC; c++) {
                // The numbers under the taps along x of each voxel, side by side in a vector.
                var window: array<vec4<f32>, 8 * TAPS>;
                // unroll
                for (var v: u32 = 0u; v < 8u; v++) {
                    // unroll
                    for (var kx: u32 = 0u; kx < KW; kx++) {
                        let column_of_row = SHIFT + v + kx;
                        window[v * TAPS + kx / 4u][kx % 4u] = subgroupShuffle(
                            xs[(c * QUADS + column_of_row / 4u) / LANES][column_of_row % 4u],
                            (c * QUADS + column_of_row / 4u) % LANES,
                        );
                    }
                }
                // unroll
                for (var v: u32 = 0u; v < 8u; v++) {
                    // unroll
                    for (var ky: u32 = 0u; ky < KH; ky++) {
                        // unroll
                        for (var o: u32 = 0u; o < OCV; o++) {
                            // unroll
                            for (var t: u32 = 0u; t < TAPS; t++) {
                                sums[((c * KH + ky) * OCV + o) * TAPS + t] +=
                                    dys[ky * ROW + 2u * o + v / 4u][v % 4u] * window[v * TAPS + t];
                            }
                        }
                    }
                }
            }
        }
    }

    let block = (group.z * groups.x + group.x) * groups.y + group.y;
    // unroll
    for (var i: u32 = 0u; i < SUMS; i++) {
        // unroll
        for (var kx: u32 = 0u; kx < KW; kx++) {
            partial[((block * SUMS + i) * KW + kx) * LANES + lane] = sums[i * TAPS + kx / 4u][kx % 4u];
        }
    }
}
