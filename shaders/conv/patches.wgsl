// y[o, f_y(p, t)] = bias[o] + sum over c, k of w[o, c, k, t] x[c, f_x(p, k)]: a convolution whose windows tile the image
// without overlap (kernel = stride, no padding), forward or as its input gradient, and the pointwise convolution.
//
// p counts the windows, k and t the taps of one. Forward the source is the fine side, f_x(p, k) = p * stride + k, and the
// target the coarse one, f_y(p, 0) = p. For the input gradient, which is the transposed convolution, it is the other way
// round: one matrix product of the coarse voxels with all taps of all channels, whose results go straight from the registers
// to their places in the fine image. With a window of one tap both sides are the same.
//
// For adapters that are a CPU with subgroups of exactly 8 lanes and u64. As in lanes.wgsl a lane owns output channels,
// and what the lanes load together is spread by shuffles. There loads and stores cost by the number, whatever its
// size, so that two f32 travel as one u64: a word is vec4<u64>, eight voxels of a row. Its low halves are the even voxels,
// its high halves the odd ones; two taps along x of the fine side are the two halves, which joins the results of both taps for
// nothing.
//
// Index map: one workgroup = one subgroup = 64 windows (8 coarse words of consecutive voxels) of BLOCKS vectors of 8 results:
// CHANNEL_BLOCKS vectors of output channels for each of TARGET^2 taps of one plane. (x, y) of the grid count tiles times
// blocks, the blocks of one tile after each other while its input is in the cache, z samples. A step is TAPS = 8 products
// for each result: 8 channels, or one plane of 2x2 taps of 2 channels. Channels beyond the end repeat the last one, with zeros
// for weights; words beyond the end repeat the last one and are not stored. Coarse rows are whole words.
//
// A step is loaded at once and run in rounds of two taps, by one piece of code: what the next round needs moves to where this
// one found it. The round is then short enough for the instruction cache, which decides here: 1x1x1 64->64 at 48^3 on
// lavapipe, 2 cores, best of 20 in ms: rounds of two taps 27, of four 44 (its 30 KB of code and the loads do not fit together),
// all eight at once 37; two vectors of results at a time 30. lanes.wgsl takes 42 there, and 88 for the transposed convolution
// 2x2x2 64->32 at 32^3, of which 39 to join its taps; this one 33, and 42 with half as many windows in rounds of four taps.
// There 56 % of the samples of a profile lie in the products (the driver neither fuses them with the sums nor keeps the sums
// in registers across a loop), 29 % in loads, 12 % in stores.
// 1x1x1 384->1536 of 197 voxels, copied into rows of 200 and back, beside lanes.wgsl in the same run (2026-11-22, both cores shared):
// 20 ms where that took 28, input gradient 20 (30), weight gradient 29 (41); of 196 voxels 10.5 (12.6), 11.0 (13.2), 16.4 (41).
// Saves nothing. Written `=`.
// Accuracy: one f32 sum per output, in the order channel, plane, tap, with fma. Deterministic: each output has one writer.

struct Params {
    x_offset: u32,
    x_batch: u32,
    x_channel: u32,
    x_slab: u32,
    x_plane: u32,
    x_row: u32,
    y_offset: u32,
    y_batch: u32,
    y_channel: u32,
    y_slab: u32,
    y_plane: u32,
    y_row: u32,
    words: u32,
    row_words: u32,
    rows: u32,
    bias_offset: u32,
    has_bias: u32,
    channels_in: u32,
    channels_out: u32,
    channel_steps: u32,
    planes: u32,
    tiles: u32,
    blocks_out: u32,
    blocks: u32,
}

alias Word = vec4<u64>;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Word>;
@group(0) @binding(2) var<storage, read> packed_weights: array<Word>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<Word>;

// Taps of a window along H and along W, on either side; one of them is 1.
const SOURCE: u32 = 1u;
const TARGET: u32 = 2u;
const CHANNEL_BLOCKS: u32 = 1u;

const LANES: u32 = 8u;
const WORDS: u32 = 8u;
const TAPS: u32 = 8u;
const CHANNELS: u32 = TAPS / (SOURCE * SOURCE);
const LOADS: u32 = CHANNELS * SOURCE * SOURCE;
const PARITIES: u32 = TARGET * TARGET;
const BLOCKS: u32 = CHANNEL_BLOCKS * PARITIES;
const QUADS: u32 = 2u * WORDS;
// Taps of a round.
const ROUND: u32 = 2u;
// Vectors of the tile that a round reads.
const ROUND_TILE: u32 = 2u * LOADS * ROUND / TAPS;

const_assert SOURCE == 1u || TARGET == 1u;

// Even numbers of a word, then odd ones.
var<private> tile: array<vec4<f32>, 2u * LOADS>;
var<private> weights: array<vec4<f32>, 2u * BLOCKS>;
var<private> sums: array<vec4<f32>, QUADS * BLOCKS>;

fn even(word: Word) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word));
}

fn odd(word: Word) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word >> vec4<u32>(32u)));
}

fn join(low: vec4<f32>, high: vec4<f32>) -> Word {
    return Word(bitcast<vec4<u32>>(low)) | (Word(bitcast<vec4<u32>>(high)) << vec4<u32>(32u));
}

// Number `i` of word `entry` of the tile, in all lanes.
fn spread(entry: u32, i: u32) -> f32 {
    return subgroupShuffle(tile[entry / LANES * 2u + i % 2u][i / 2u], entry % LANES);
}

// Adds the taps of a round to the four windows from 4 * v of the tile on.
fn add_taps(v: u32) {
    // unroll
    for (var tap: u32 = 0u; tap < ROUND; tap++) {
        let row = tap / SOURCE;
        let entry = (row * WORDS + v / 2u) * SOURCE + v % 2u * (SOURCE - 1u);
        let first = v % 2u * 4u * (2u - SOURCE) + tap % SOURCE;
        let values = vec4(
            spread(entry, first),
            spread(entry, first + SOURCE),
            spread(entry, first + 2u * SOURCE),
            spread(entry, first + 3u * SOURCE),
        );
        // unroll
        for (var b: u32 = 0u; b < BLOCKS; b++) {
            sums[v * BLOCKS + b] = fma(vec4(weights[2u * b + tap % 2u][tap / 2u]), values, sums[v * BLOCKS + b]);
        }
    }
}

// Column, row and plane of a coarse word.
struct Place {
    column: u32,
    row: u32,
    plane: u32,
}

fn place_of(word: u32) -> Place {
    let row = word / params.row_words;
    let plane = row / params.rows;
    return Place(word - row * params.row_words, row - plane * params.rows, plane);
}

fn next(place: Place) -> Place {
    var after = Place(place.column + 1u, place.row, place.plane);
    let next_row = after.column == params.row_words;
    after.column = select(after.column, 0u, next_row);
    after.row += select(0u, 1u, next_row);
    let next_plane = after.row == params.rows;
    after.row = select(after.row, 0u, next_plane);
    after.plane += select(0u, 1u, next_plane);
    return after;
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
    var places: array<u32, SOURCE>;
    // unroll
    for (var part: u32 = 0u; part < SOURCE; part++) {
        let entry = part * LANES + lane;
        let p = place_of(min(index * WORDS + entry / SOURCE, params.words - 1u));
        places[part] = params.x_offset + group.z * params.x_batch + p.plane * params.x_slab + p.row * SOURCE * params.x_row
            + p.column * SOURCE + entry % SOURCE;
    }
    // unroll
    for (var i: u32 = 0u; i < QUADS * BLOCKS; i++) {
        sums[i] = vec4(0.0);
    }
    var weight = block * params.channel_steps * params.planes * BLOCKS * LANES + lane;
    for (var c = 0u; c < params.channel_steps; c++) {
        for (var plane = 0u; plane < params.planes; plane++) {
            // unroll
            for (var i: u32 = 0u; i < LOADS; i++) {
                let channel = min(c * CHANNELS + i / (SOURCE * SOURCE), params.channels_in - 1u);
                let row = i / SOURCE % SOURCE;
                let word = x[places[i % SOURCE] + channel * params.x_channel + plane * params.x_plane + row * params.x_row];
                tile[2u * i] = even(word);
                tile[2u * i + 1u] = odd(word);
            }
            // unroll
            for (var b: u32 = 0u; b < BLOCKS; b++) {
                let word = packed_weights[weight + b * LANES];
                weights[2u * b] = even(word);
                weights[2u * b + 1u] = odd(word);
            }
            weight += BLOCKS * LANES;
            for (var round = 0u; round < TAPS / ROUND; round++) {
                // unroll
                for (var v: u32 = 0u; v < QUADS; v++) {
                    add_taps(v);
                }
                // The next taps take the place of these.
                // unroll
                for (var i: u32 = 0u; i < 2u * LOADS - ROUND_TILE; i++) {
                    tile[i] = tile[ROUND_TILE + i];
                }
                // unroll
                for (var b: u32 = 0u; b < 2u * BLOCKS; b++) {
                    weights[b] = weights[b].yzwx;
                }
            }
        }
    }
    let first_plane = block / params.blocks_out;
    // unroll
    for (var m: u32 = 0u; m < CHANNEL_BLOCKS; m++) {
        let channel = (block % params.blocks_out * CHANNEL_BLOCKS + m) * LANES + lane;
        if channel < params.channels_out {
            var shift = 0.0;
            if params.has_bias != 0u {
                shift = bias[params.bias_offset + channel];
            }
            let start = params.y_offset + group.z * params.y_batch + channel * params.y_channel
                + first_plane * params.y_plane;
            var p = place_of(index * WORDS);
            // unroll
            for (var i: u32 = 0u; i < WORDS; i++) {
                if index * WORDS + i < params.words {
                    let at = start + p.plane * params.y_slab + p.row * TARGET * params.y_row + p.column * TARGET;
                    // unroll
                    for (var t: u32 = 0u; t < TARGET; t++) {
                        // unroll
                        for (var half: u32 = 0u; half < TARGET; half++) {
                            let row = at + t * params.y_row + half;
                            let s = (2u * i + half) * BLOCKS + m * PARITIES + t * TARGET;
                            let low = sums[s] + shift;
                            let high = sums[s + (TARGET - 1u) + (2u - TARGET) * BLOCKS] + shift;
                            if TARGET == 1u {
                                y[row] = join(vec4(low.xz, high.xz), vec4(low.yw, high.yw));
                            } else {
                                y[row] = join(low, high);
                            }
                        }
                    }
                }
                p = next(p);
            }
        }
    }
}
