// partial[s, o, c, k] = sum over the tiles of part s of dy[n, o, p] x[n, c, p * stride + k * dilation - padding]
//
// The weight gradient for CPU-like adapters, where a load costs as much as several FMAs on 8 lanes. Lanes are output
// channels: each holds a tile of TY x TX voxels of dy of OCV channels; one tile of x for IC input channels, with its
// halo, is loaded by all lanes together and spread by shuffles. Every loaded number serves OCV * KH * KW FMAs.
// Index map: one workgroup = one subgroup of 8 = 8 * OCV output channels (blocks along x of the grid) x IC input
// channels (blocks along y) x one tap along z, for one part of the tiles (both in z of the grid). Rows of x come from a
// copy padded in y and x; planes outside x are skipped. Channels beyond the end repeat the last one; nobody reads
// their sums. Sums lie in `partial` as [part][tap z][block o][block c][c][tap y][o / 8][tap x][lane].
// Accuracy: sequential f32 sums of at most voxels / parts products, added up by weight_grad_parts.wgsl. Deterministic.
// Measured on lavapipe (2 cores, 8 lanes), GFLOP by second of processor time, both cores: 3x3x3 16 -> 16 at 64^3 48, with IC = 4 43
// (in 1.4 s of compiling for 0.9). With loads of 32 bits and IC = 4: 32->32 at 32^3 45, 128->128 at 8^3 44, stride 2 30, 1x1x1 22,
// 2x2x2 stride 2 19.
// Rejected: 27 taps an invocation, which needs four times the code; sums as scalars instead of one vector along kx (as fast, 3
// times the text); lanes along x with subgroupAdd (7).
// Needs dy as vec4 rows of whole tiles: a padded copy where its extents are no multiples of the tile.

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
const SH: u32 = 1u;
const SW: u32 = 1u;
const TY: u32 = 4u;
const TX: u32 = 8u;
const LANES: u32 = 8u;
const ROWS: u32 = (TY - 1u) * SH + KH;
const WIDTH: u32 = (TX - 1u) * SW + KW;
const ROW4: u32 = (WIDTH + 3u) / 4u;
const LOADS: u32 = (IC * ROWS * ROW4 + LANES - 1u) / LANES;
const TX4: u32 = TX / 4u;
const SUMS: u32 = IC * KH * OCV;
const_assert KW <= 4u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
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
    // unroll
    for (var j: u32 = 0u; j < LOADS; j++) {
        let t = min(j * LANES + lane, IC * ROWS * ROW4 - 1u);
        let c = min(first_c + t / (ROWS * ROW4), params.channels_in - 1u);
        x_at[j] = params.x_first + c * params.x_channel + t / ROW4 % ROWS * params.x_row + t % ROW4;
    }
    var y_at: array<u32, OCV>;
    // unroll
    for (var o: u32 = 0u; o < OCV; o++) {
        y_at[o] = params.y_first + min(first_o + o * LANES, params.channels_out - 1u) * params.y_channel;
    }

    var sums: array<vec4<f32>, SUMS>;
    let first = part * params.tiles_per_part;
    let last = min(first + params.tiles_per_part, params.tiles);
    for (var tile = first; tile < last; tile++) {
        let tile_x = tile % params.tiles_w;
        let tile_y = tile / params.tiles_w % params.tiles_h;
        let plane = tile / (params.tiles_w * params.tiles_h) % params.y_d;
        let n = tile / (params.tiles_w * params.tiles_h * params.y_d);
        let z = plane * params.stride_d + tap_z * params.dilation_d - params.padding_d;
        // Below 0 wraps around to beyond the end.
        if z >= params.x_d {
            continue;
        }
        let x_tile = n * params.x_batch + z * params.x_plane + tile_y * TY * SH * params.x_row + tile_x * TX4 * SW;
        let y_tile = n * params.y_batch + plane * params.y_plane + tile_y * TY * params.y_row + tile_x * TX4;

        var dys: array<vec4<f32>, OCV * TY * TX4>;
        // unroll
        for (var o: u32 = 0u; o < OCV; o++) {
            // unroll
            for (var y: u32 = 0u; y < TY; y++) {
                // unroll
                for (var v: u32 = 0u; v < TX4; v++) {
                    dys[(o * TY + y) * TX4 + v] = dy[y_at[o] + y_tile + y * params.y_row + v];
                }
            }
        }
        var xs: array<vec4<f32>, LOADS>;
        // unroll
        for (var j: u32 = 0u; j < LOADS; j++) {
            xs[j] = x[x_at[j] + x_tile];
        }

        // unroll
        for (var c: u32 = 0u; c < IC; c++) {
            // The KW numbers under the taps of one row of the window, side by side in a vector.
            var window: array<vec4<f32>, ROWS * TX>;
            // unroll
            for (var y: u32 = 0u; y < ROWS; y++) {
                // unroll
                for (var v: u32 = 0u; v < TX; v++) {
                    // unroll
                    for (var kx: u32 = 0u; kx < KW; kx++) {
                        window[y * TX + v][kx] = subgroupShuffle(
                            xs[((c * ROWS + y) * ROW4 + (v * SW + kx) / 4u) / LANES][(v * SW + kx) % 4u],
                            (((c * ROWS + y) * ROW4 + (v * SW + kx) / 4u) % LANES),
                        );
                    }
                }
            }
            // unroll
            for (var ky: u32 = 0u; ky < KH; ky++) {
                // unroll
                for (var y: u32 = 0u; y < TY; y++) {
                    // unroll
                    for (var v: u32 = 0u; v < TX; v++) {
                        // unroll
                        for (var o: u32 = 0u; o < OCV; o++) {
                            sums[(c * KH + ky) * OCV + o] +=
                                dys[(o * TY + y) * TX4 + v / 4u][v % 4u] * window[(y * SH + ky) * TX + v];
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
            partial[((block * SUMS + i) * KW + kx) * LANES + lane] = sums[i][kx];
        }
    }
}
