// partial[o, k, part] = sum over the tiles of a part of dy[n, o, p] x[n, o / multiplier, p * stride + k - padding]
//
// The weight gradient where each group is one input channel, for adapters that are a CPU: depthwise_strips.wgsl with a sum for
// each tap in place of the outputs. A step loads SW vec4 of each row of x and one of each row of dy.
// Index map: one invocation = one part of the tiles of one channel, every parts-th tile of all samples; GROUP consecutive ones a
// workgroup, (x, y) of the grid count them. Written `=`.
// Accuracy: four sequential f32 sums a tap over the voxels of a part, added up here, and then the parts by
// reduce/merge_sums in a fixed tree. Deterministic.
//
// Measured, 3x3x3, 64 channels at 48^3, ms on a shared 2-core adapter, best of 12 in turns: this kernel 46 to 50; tiles of 2x4
// 48 to 59, 4x2 33 to 62, 6x4 44, 6x2 45 to 60, so all within the noise; 4x4 is kept as its forward is the fastest.
// Consecutive tiles for one invocation, so that neighbours share no rows in the cache: 74 to 85 where this order takes 50.
// depthwise_weight_grad.wgsl, which loads scalars: 640 to 660.

struct Params {
    x_first: u32,
    x_batch: u32,
    x_channel: u32,
    x_plane: u32,
    x_row: u32,
    x_d: u32,
    x_h: u32,
    y_first: u32,
    y_batch: u32,
    y_channel: u32,
    y_plane: u32,
    y_row: u32,
    y_d: u32,
    y_h: u32,
    channels: u32,
    multiplier: u32,
    tiles_d: u32,
    tiles_h: u32,
    tiles: u32,
    parts: u32,
    first_d: i32,
    first_h: i32,
}

const KD: u32 = 3u;
const KH: u32 = 3u;
const KW: u32 = 3u;
const SD: u32 = 1u;
const SH: u32 = 1u;
const SW: u32 = 1u;
const TZ: u32 = 4u;
const TY: u32 = 4u;
const GROUP: u32 = 16u;

const PLANES: u32 = (TZ - 1u) * SD + KD;
const ROWS: u32 = (TY - 1u) * SH + KH;
// Numbers before the window in its first vector: the KW / 2 zeros before a row are the end of a vector of zeros.
const SHIFT: u32 = 4u - KW / 2u;
// The vector in which the window begins and what whole steps of SW vectors load after it.
const VECS: u32 = 1u + (SHIFT + 7u * SW + KW - 5u) / (4u * SW) * SW;
const KEPT: u32 = VECS - SW;
// Steps that only load, before the window of the first outputs is full.
const LEAD: u32 = (KEPT - 1u) / SW;
const TAPS: u32 = KD * KH * KW;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * GROUP + lane;
    let o = i / params.parts;
    if o >= params.channels {
        return;
    }
    var sums: array<vec4<f32>, TAPS>;
    // Neighbours take neighbouring tiles, whose rows overlap in the cache.
    for (var tile = i % params.parts; tile < params.tiles; tile += params.parts) {
        let ty = tile % params.tiles_h * TY;
        let tz = tile / params.tiles_h % params.tiles_d * TZ;
        let n = tile / (params.tiles_h * params.tiles_d);
        let x_first = params.x_first + n * params.x_batch + o / params.multiplier * params.x_channel;
        let y_first = params.y_first + n * params.y_batch + o * params.y_channel;
        // Before the near border these wrap round to huge numbers, which fail the comparison like those beyond the far one.
        var row_at: array<u32, PLANES * ROWS>;
        var row_end: array<u32, PLANES * ROWS>;
        // unroll
        for (var r: u32 = 0u; r < PLANES * ROWS; r++) {
            let iz = tz * SD + (r / ROWS) + u32(params.first_d);
            let iy = ty * SH + (r % ROWS) + u32(params.first_h);
            let inside = iz < params.x_d && iy < params.x_h;
            row_at[r] = select(x_first, x_first + iz * params.x_plane + iy * params.x_row, inside);
            row_end[r] = select(0u, params.x_row, inside);
        }
        var strip: array<vec4<f32>, PLANES * ROWS * VECS>;
        for (var step = 0u; step < params.y_row + LEAD; step++) {
            // unroll
            for (var r: u32 = 0u; r < PLANES * ROWS; r++) {
                // unroll
                for (var j: u32 = KEPT; j < VECS; j++) {
                    let ix = step * SW + j - KEPT;
                    strip[r * VECS + j] = select(vec4(0.0), x[row_at[r] + min(ix, params.x_row - 1u)], ix < row_end[r]);
                }
            }
            if step >= LEAD {
                var dys: array<vec4<f32>, TZ * TY>;
                // unroll
                for (var q: u32 = 0u; q < TZ * TY; q++) {
                    let oz = tz + (q / TY);
                    let oy = ty + (q % TY);
                    let at = min(oz, params.y_d - 1u) * params.y_plane + min(oy, params.y_h - 1u) * params.y_row;
                    dys[q] = select(vec4(0.0), dy[y_first + at + step - LEAD], oz < params.y_d && oy < params.y_h);
                }
                // unroll
                for (var t: u32 = 0u; t < TAPS; t++) {
                    var sum = sums[t];
                    // unroll
                    for (var q: u32 = 0u; q < TZ * TY; q++) {
                        sum += dys[q] * vec4(
                            strip[((((q / TY) * SD + t / (KH * KW)) * ROWS + (q % TY) * SH + t / KW % KH) * VECS + (SHIFT + t % KW) / 4u)][((SHIFT + t % KW) % 4u)],
                            strip[((((q / TY) * SD + t / (KH * KW)) * ROWS + (q % TY) * SH + t / KW % KH) * VECS + (SHIFT + t % KW + SW) / 4u)][((SHIFT + t % KW + SW) % 4u)],
                            strip[((((q / TY) * SD + t / (KH * KW)) * ROWS + (q % TY) * SH + t / KW % KH) * VECS + (SHIFT + t % KW + 2u * SW) / 4u)][((SHIFT + t % KW + 2u * SW) % 4u)],
                            strip[((((q / TY) * SD + t / (KH * KW)) * ROWS + (q % TY) * SH + t / KW % KH) * VECS + (SHIFT + t % KW + 3u * SW) / 4u)][((SHIFT + t % KW + 3u * SW) % 4u)],
                        );
                    }
                    sums[t] = sum;
                }
            }
            // unroll
            for (var r: u32 = 0u; r < PLANES * ROWS; r++) {
                // unroll
                for (var j: u32 = 0u; j < KEPT; j++) {
                    strip[r * VECS + j] = strip[r * VECS + j + SW];
                }
            }
        }
    }
    // unroll
    for (var t: u32 = 0u; t < TAPS; t++) {
        partial[(o * TAPS + t) * params.parts + i % params.parts] = (sums[t].x + sums[t].y) + (sums[t].z + sums[t].w);
    }
}
