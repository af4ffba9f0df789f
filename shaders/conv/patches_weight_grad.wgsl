// partial[s, o, c, k] = sum over the windows p of part s of dy[n, o, p] x[n, c, p * stride + k], for windows that tile the image
// without overlap (kernel = stride, no padding) and for the pointwise convolution.
//
// For adapters that are a CPU with subgroups of exactly 8 lanes and u64; words as in patches.wgsl. Lanes are channels of dy: each
// loads a word (eight voxels) of VECTORS of them. The words of x under it, of one plane of the windows of IC channels, are loaded by all
// lanes together and spread by shuffles: BESIDE = 32 numbers for each window. A word is run in two rounds of four
// windows by one piece of code, short enough for the instruction cache (see patches.wgsl).
//
// Index map: one workgroup = one subgroup = 8 * VECTORS channels of dy (blocks along x of the grid) x IC channels of x (blocks along y) x
// one tap along D, for one part of the words of all samples (both in z). Channels beyond the end repeat the last one; nobody
// reads their sums. Sums lie in `partial` as weight_grad_parts.wgsl wants them, which adds up the parts:
// [part][tap z][block o][block c][c][tap y][o / 8][tap x][lane].
// Accuracy: sequential f32 sums of at most voxels / parts products. Deterministic.

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
    words: u32,
    row_words: u32,
    rows: u32,
    channels_in: u32,
    channels_out: u32,
    all_words: u32,
    words_per_part: u32,
    kernel_d: u32,
}

alias Word = vec4<u64>;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Word>;
@group(0) @binding(2) var<storage, read> dy: array<Word>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

// Taps of a window along H and along W.
const SOURCE: u32 = 2u;

const LANES: u32 = 8u;
const VECTORS: u32 = 4u;
const BESIDE: u32 = 32u;
const IC: u32 = BESIDE / (SOURCE * SOURCE);
const LOADS: u32 = BESIDE / LANES;

// Even numbers of a word, then odd ones.
var<private> tile: array<vec4<f32>, 2u * LOADS>;
// The next four windows in all vectors of channels, window by window, and the four after them.
var<private> dys: array<vec4<f32>, 8>;
var<private> sums: array<vec4<f32>, BESIDE>;

fn even(word: Word) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word));
}

fn odd(word: Word) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word >> vec4<u32>(32u)));
}

// The number `j` = (channel, tap y, tap x) beside window `k` of the round, in all lanes. With taps along W a word holds four
// windows, and the words of the first four come first; without them it holds eight.
fn spread(j: u32, k: u32) -> f32 {
    let entry = j / SOURCE;
    let component = (SOURCE - 1u) * k + (2u - SOURCE) * (k / 2u);
    let half = (SOURCE - 1u) * (j % SOURCE) + (2u - SOURCE) * (k % 2u);
    return subgroupShuffle(tile[2u * (entry / LANES) + half][component], entry % LANES);
}

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let tap_z = group.z % params.kernel_d;
    let part = group.z / params.kernel_d;
    var x_at: array<u32, LOADS>;
    // unroll
    for (var i: u32 = 0u; i < LOADS; i++) {
        let entry = i * LANES + lane;
        let c = min(group.y * IC + entry / SOURCE % IC, params.channels_in - 1u);
        x_at[i] = params.x_offset + c * params.x_channel + tap_z * params.x_plane + entry % SOURCE * params.x_row
            + entry / (IC * SOURCE);
    }
    var y_at: array<u32, VECTORS>;
    // unroll
    for (var v: u32 = 0u; v < VECTORS; v++) {
        let o = min((group.x * VECTORS + v) * LANES + lane, params.channels_out - 1u);
        y_at[v] = params.y_offset + o * params.y_channel;
    }
    // unroll
    for (var j: u32 = 0u; j < BESIDE; j++) {
        sums[j] = vec4(0.0);
    }
    let first = part * params.words_per_part;
    let last = min(first + params.words_per_part, params.all_words);
    var n = first / params.words;
    var at = first - n * params.words;
    var row = at / params.row_words;
    var column = at - row * params.row_words;
    var plane = row / params.rows;
    row -= plane * params.rows;
    for (var i = first; i < last; i++) {
        var words: array<Word, VECTORS>;
        let y_word = n * params.y_batch + at;
        // unroll
        for (var v: u32 = 0u; v < VECTORS; v++) {
            words[v] = dy[y_at[v] + y_word];
        }
        let x_word = n * params.x_batch + plane * params.x_slab + row * SOURCE * params.x_row + column * SOURCE;
        // unroll
        for (var l: u32 = 0u; l < LOADS; l++) {
            let word = x[x_at[l] + x_word];
            tile[2u * l] = even(word);
            tile[2u * l + 1u] = odd(word);
        }
        // unroll
        for (var k: u32 = 0u; k < 4u; k++) {
            // unroll
            for (var v: u32 = 0u; v < VECTORS; v++) {
                dys[2u * k][v] = even(words[v])[k];
                dys[2u * k + 1u][v] = odd(words[v])[k];
            }
        }
        for (var round = 0u; round < 2u; round++) {
            // unroll
            for (var j: u32 = 0u; j < BESIDE; j++) {
                // unroll
                for (var k: u32 = 0u; k < 4u; k++) {
                    sums[j] = fma(dys[k], vec4(spread(j, k)), sums[j]);
                }
            }
            // The next four windows take the place of these.
            // unroll
            for (var k: u32 = 0u; k < 4u; k++) {
                dys[k] = dys[4u + k];
            }
            // unroll
            for (var l: u32 = 0u; l < LOADS; l++) {
                if SOURCE == 1u {
                    tile[2u * l] = tile[2u * l].zwzw;
                    tile[2u * l + 1u] = tile[2u * l + 1u].zwzw;
                } else {
                    tile[l] = tile[LOADS + l];
                }
            }
        }
        at++;
        column++;
        if column == params.row_words {
            column = 0u;
            row++;
        }
        if row == params.rows {
            row = 0u;
            plane++;
        }
        if at == params.words {
            at = 0u;
            plane = 0u;
            n++;
        }
    }
    let block = (group.z * groups.x + group.x) * groups.y + group.y;
    // unroll
    for (var j: u32 = 0u; j < BESIDE; j++) {
        let row_of = j / SOURCE;
        // unroll
        for (var v: u32 = 0u; v < VECTORS; v++) {
            partial[(((block * IC * SOURCE + row_of) * VECTORS + v) * SOURCE + j % SOURCE) * LANES + lane] = sums[j][v];
        }
    }
}
