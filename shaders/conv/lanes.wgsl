// y[o, p] = bias[o] + sum over c, k of w[o, c, k] x[c, p * stride + k], as a register tile with lanes = output channels.
//
// For adapters that are a CPU with subgroups of exactly 8 lanes (8 f32 of a vector register). There each access to a
// buffer is a scalar loop over the lanes, so the kernel loads little and spreads it by shuffles:
//   * a lane owns BLOCKS output channels (8 apart) of a tile of TILE_D x TILE_H x TILE_W voxels;
//   * the input tile with its halo is loaded as vec4, another vec4 by each lane, and every value is then shuffled to all
//     lanes, from constant lanes out of constant registers;
//   * the weights are packed so that a lane loads eight of its own at once.
// The sum over taps is the inner order: the BLOCKS * PAIR * 4 accumulators of four voxels stay live through all taps.
//
// One source serves every window: forward, and (with weights packed that way) the input gradient, which is a forward
// convolution with stride 1 for each parity class of dx. With PAIR = 2 a lane computes the two classes of a row of dx,
// whose even one lacks the last SKIP taps of a row, and stores them in their places; what has no such kernel is run with all
// `classes` in one dispatch and stored side by side. A step is one plane of the window of one input channel; a window of one
// tap takes CHANNELS input channels a step, and with stride 1 sees a sample as one row of voxels.
//
// Index map: one workgroup = one subgroup = one tile of 8 * BLOCKS channels; (x, y) of the grid count tiles times blocks of
// channels of all classes, the blocks of one tile after each other while its input is in the cache. The extents of x and y are
// in vec4 along the rows. GUARDED, x is the tensor itself, in rows of whole vec4: a tile's row starts SHIFT columns before its
// window, and a lane whose vec4 lies outside skips the load. Else x is a copy padded with zeros so that no load needs a guard
// (see pad.wgsl), or a tensor of which nothing but itself is read.
// Saves nothing. Written `=`.
// Accuracy: one f32 sum per output, in the order channel, plane, tap, with fma. Deterministic: each output has one writer.
//
// Measured, 3x3x3, GFLOP by second of processor time, two cores: 32 -> 32 channels at 32^3 68, 32 -> 16 at 64^3 53.
// With weights loaded four at once, in turns, processor time: 32 -> 16 at 64^3 1.05 times as long, 32 -> 32 at 32^3 1.03.
// Rejected in the same run: padded copies with tiles of 1x8x8 (the way for other rows) 58 and 50; tiles of 1x8x8 without a copy
// 57 and 48. Tiles of 1x8x16: 0.8 to 0.9 of 1x8x8, and twice as long to compile.
// Rejected when each load was of 32 bits and 1x8x8 made 33-35: tiles of 2x8x8 26, of 4x4x4 30 (kept for planes below 8x8). All 27
// taps in one step on 4x4x4: 15 beside other work, and four times as long to compile. Pointwise with 4 blocks a lane: 20 instead of 19.
// Rejected earlier on the same adapter: workgroup memory, 8x8 an invocation 3.0; lanes along x with weights from a storage
// buffer 8.8, from a uniform buffer 13.8, by broadcast 22.8; loads by each lane for itself 5.2; taps as the outer order 16.7.
// Winograd's F(4, 3) along W, direct along D and H, in tiles of 1x16x8 with the same design: 0.95 to 1.05 of this kernel by processor
// time. Half the multiplications, but half of the time goes into loads, and of the rest two fifths into moving three times
// as many sums.

struct Params {
    x_offset: u32,
    x_channel: u32,
    x_plane: u32,
    x_row: u32,
    x_d: u32,
    x_h: u32,
    before_d: u32,
    before_h: u32,
    before_w: u32,
    y_offset: u32,
    y_class: u32,
    y_channel: u32,
    y_plane: u32,
    y_row: u32,
    y_d: u32,
    y_h: u32,
    y_w: u32,
    bias_offset: u32,
    has_bias: u32,
    channels_out: u32,
    channel_steps: u32,
    planes: u32,
    stride_d: u32,
    tiles_h: u32,
    tiles_w: u32,
    tiles: u32,
    blocks_out: u32,
    blocks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> packed_weights: array<mat2x4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

const KERNEL_H: u32 = 3u;
const KERNEL_W: u32 = 3u;
const STRIDE_H: u32 = 1u;
const STRIDE_W: u32 = 1u;
const TILE_D: u32 = 4u;
const TILE_H: u32 = 4u;
const TILE_W: u32 = 4u;
const CHANNELS: u32 = 1u;
const BLOCKS: u32 = 2u;
const PAIR: u32 = 1u;
const SKIP: u32 = 0u;
const GUARDED: u32 = 0u;
const SHIFT: u32 = 0u;

const LANES: u32 = 8u;
const IN_H: u32 = (TILE_H - 1u) * STRIDE_H + KERNEL_H;
const IN_W: u32 = (TILE_W - 1u) * STRIDE_W + KERNEL_W + SHIFT;
const ROW: u32 = (IN_W + 3u) / 4u;
const ENTRIES: u32 = CHANNELS * TILE_D * IN_H * ROW;
const LOADS: u32 = (ENTRIES + LANES - 1u) / LANES;
const TAPS: u32 = CHANNELS * KERNEL_H * KERNEL_W;
const PLACES: u32 = BLOCKS * PAIR;
const WEIGHTS: u32 = (TAPS * PLACES + 7u) / 8u;
const TILE_V: u32 = TILE_W / 4u;
const SUMS: u32 = TILE_D * TILE_H * TILE_V * PLACES;

const_assert TILE_W % 4u == 0u;

// Far from where a plane of the window may come to lie.
const NOWHERE: u32 = 0x80000000u;

var<private> tile: array<vec4<f32>, LOADS>;
var<private> weights: array<vec4<f32>, 2u * WEIGHTS>;
var<private> sums: array<vec4<f32>, SUMS>;

// Column `column` of row `row` of the input tile, in all lanes.
fn spread(row: u32, column: u32) -> f32 {
    let entry = row * ROW + column / 4u;
    return subgroupShuffle(tile[entry / LANES][column % 4u], entry % LANES);
}

// Adds all taps to the four voxels from (z, y, 4 * v) of the tile on.
fn add_taps(z: u32, y: u32, v: u32) {
    let first = ((z * TILE_H + y) * TILE_V + v) * PLACES;
    // unroll
    for (var tap: u32 = 0u; tap < TAPS; tap++) {
        let plane = tap / (KERNEL_H * KERNEL_W) * TILE_D + z;
        let row = plane * IN_H + y * STRIDE_H + tap / KERNEL_W % KERNEL_H;
        let column = 4u * v * STRIDE_W + tap % KERNEL_W + SHIFT;
        let values = vec4(
            spread(row, column),
            spread(row, column + STRIDE_W),
            spread(row, column + 2u * STRIDE_W),
            spread(row, column + 3u * STRIDE_W),
        );
        // unroll
        for (var b: u32 = 0u; b < BLOCKS; b++) {
            // unroll
            for (var p: u32 = tap % KERNEL_W * SKIP; p < PAIR; p++) {
                let weight = weights[(tap * PLACES + b * PAIR + p) / 4u][(tap * PLACES + b * PAIR + p) % 4u];
                sums[first + b * PAIR + p] = fma(vec4(weight), values, sums[first + b * PAIR + p]);
            }
        }
    }
}

// Four neighbours of a row of y from sums[i] on: with PAIR = 2 the even columns lie there and the odd ones behind.
fn row_part(i: u32, part: u32) -> vec4<f32> {
    let even = sums[i];
    if PAIR == 1u {
        return even;
    }
    let odd = sums[i + PAIR - 1u];
    if part == 0u {
        return vec4(even.x, odd.x, even.y, odd.y);
    }
    return vec4(even.z, odd.z, even.w, odd.w);
}

// What load `i` of this lane reads for channel and plane 0: its place in x, and its plane, which lies beyond all others where
// it has no row or column. Where x is a copy, it repeats a valid place beyond the last row of x.
fn place(i: u32, lane: u32, origin: vec3<u32>) -> vec2<u32> {
    let entry = min(i * LANES + lane, ENTRIES - 1u);
    let row = entry / ROW;
    let plane = row / IN_H;
    // Before the near border these wrap round to huge numbers, which fail the same comparison as those beyond the far one.
    let z = (origin.z + plane % TILE_D) * params.stride_d - params.before_d;
    let y = origin.y * STRIDE_H + row % IN_H - params.before_h;
    let column = origin.x / 4u * STRIDE_W + entry % ROW - params.before_w;
    let at = params.x_offset + plane / TILE_D * params.x_channel + z * params.x_plane + y * params.x_row;
    if GUARDED == 1u {
        return vec2(at + column, select(NOWHERE, z, y < params.x_h && column < params.x_row));
    }
    return vec2(at + min(column, params.x_row - 1u), z);
}

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let flat = group.y * groups.x + group.x;
    let block = flat % params.blocks;
    let index = flat / params.blocks;
    if index >= params.tiles {
        return;
    }
    let origin = vec3(
        index % params.tiles_w * TILE_W,
        index / params.tiles_w % params.tiles_h * TILE_H,
        index / (params.tiles_w * params.tiles_h) * TILE_D,
    );
    var places: array<vec2<u32>, LOADS>;
    // unroll
    for (var i: u32 = 0u; i < LOADS; i++) {
        places[i] = place(i, lane, origin);
    }
    // unroll
    for (var i: u32 = 0u; i < SUMS; i++) {
        sums[i] = vec4(0.0);
    }
    var weight = block * params.channel_steps * params.planes * WEIGHTS * LANES + lane;
    for (var c = 0u; c < params.channel_steps; c++) {
        for (var plane = 0u; plane < params.planes; plane++) {
            let step = c * CHANNELS * params.x_channel + plane * params.x_plane;
            // unroll
            for (var i: u32 = 0u; i < LOADS; i++) {
                if GUARDED == 0u || places[i].y + plane < params.x_d {
                    tile[i] = x[places[i].x + step];
                } else {
                    tile[i] = vec4(0.0);
                }
            }
            // unroll
            for (var i: u32 = 0u; i < WEIGHTS; i++) {
                let eight = packed_weights[weight + i * LANES];
                weights[2u * i] = eight[0];
                weights[2u * i + 1u] = eight[1];
            }
            weight += WEIGHTS * LANES;
            // unroll
            for (var z: u32 = 0u; z < TILE_D; z++) {
                // unroll
                for (var y: u32 = 0u; y < TILE_H; y++) {
                    // unroll
                    for (var v: u32 = 0u; v < TILE_V; v++) {
                        add_taps(z, y, v);
                    }
                }
            }
        }
    }
    let parity = block / params.blocks_out;
    // unroll
    for (var b: u32 = 0u; b < BLOCKS; b++) {
        let channel = (block % params.blocks_out * BLOCKS + b) * LANES + lane;
        let is_channel = channel < params.channels_out;
        var shift = 0.0;
        if is_channel && params.has_bias != 0u {
            shift = bias[params.bias_offset + channel];
        }
        let column = origin.x / 4u * PAIR;
        let first = params.y_offset + parity * params.y_class + channel * params.y_channel
            + origin.z * params.y_plane + origin.y * params.y_row + column;
        // unroll
        for (var z: u32 = 0u; z < TILE_D; z++) {
            // unroll
            for (var row: u32 = 0u; row < TILE_H; row++) {
                // unroll
                for (var v: u32 = 0u; v < TILE_V; v++) {
                    // unroll
                    for (var p: u32 = 0u; p < PAIR; p++) {
                        if is_channel && origin.z + z < params.y_d && origin.y + row < params.y_h && column + v * PAIR + p < params.y_w {
                            y[first + z * params.y_plane + row * params.y_row + v * PAIR + p] =
                                row_part(((z * TILE_H + row) * TILE_V + v) * PLACES + b * PAIR, p) + shift;
                        }
                    }
                }
            }
        }
    }
}
