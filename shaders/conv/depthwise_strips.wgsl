// y[o, p] = bias[o] + sum over t of w[o, w_first + t * w_step] x[o / multiplier, p * stride + t + first]
//
// Convolution where each group is one input channel, forward; with the taps backwards also its input gradient for stride 1.
// For adapters that are a CPU: there a load costs as much as many FMAs, whichever lane loads what, so each invocation walks
// along x over a tile of TZ x TY rows of y and holds the window under it, PLANES x ROWS rows of VECS vec4, in registers. A step
// loads SW vec4 a row and stores TZ * TY vec4; with 3x3x3, stride 1, 4x4 rows: 2.25 loads for 4 outputs, or 27 taps.
// Rows are whole vec4, and the window begins KW / 2 before its output. Rows and columns outside x count as zeros; they are
// selected, not multiplied, so nothing outside is looked at.
// Index map: one invocation = one tile of one channel; GROUP consecutive ones (along y, then z, channels) a workgroup, (x, y)
// of the grid count the workgroups of a sample, z is the sample. Saves nothing. Written `=`.
// Accuracy: one sequential f32 sum of TAPS products. Deterministic.
//
// Measured, 3x3x3, 64 channels at 48^3, ms on a shared 2-core adapter, best of 12 in turns: this kernel 48; tiles of 6x4 55,
// 8x4 58, 6x6 48 (and 2.5 times as long to compile). In an earlier turn: 4x4 45, 2x4 69, 4x2 61, 2x2 80, 1x4 77. A workgroup
// of 8, 32 or 64: 50 to 55. depthwise.wgsl, which loads scalars: 470 to 500. Loading the first vectors before the loop is
// as fast and takes twice as long to compile.

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
    w_offset: u32,
    w_batch: u32,
    w_first: u32,
    w_step: i32,
    bias_offset: u32,
    has_bias: u32,
    channels: u32,
    multiplier: u32,
    tiles_d: u32,
    tiles_h: u32,
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
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * GROUP + lane;
    let ty = i % params.tiles_h * TY;
    let tz = i / params.tiles_h % params.tiles_d * TZ;
    let o = i / (params.tiles_h * params.tiles_d);
    if o >= params.channels {
        return;
    }
    let n = group.z;
    var weights: array<f32, TAPS>;
    // unroll
    for (var t: u32 = 0u; t < TAPS; t++) {
        weights[t] = w[params.w_offset + o * params.w_batch + params.w_first + u32(i32(t) * params.w_step)];
    }
    var b = 0.0;
    if params.has_bias != 0u {
        b = bias[params.bias_offset + o];
    }
    let x_first = params.x_first + n * params.x_batch + o / params.multiplier * params.x_channel;
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
    let y_first = params.y_first + n * params.y_batch + o * params.y_channel + tz * params.y_plane + ty * params.y_row;

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
            // unroll
            for (var q: u32 = 0u; q < TZ * TY; q++) {
                var sum = vec4(b);
                // unroll
                for (var t: u32 = 0u; t < TAPS; t++) {
                    sum += weights[t] * vec4(
                        strip[((((q / TY) * SD + t / (KH * KW)) * ROWS + (q % TY) * SH + t / KW % KH) * VECS + (SHIFT + t % KW) / 4u)][((SHIFT + t % KW) % 4u)],
                        strip[((((q / TY) * SD + t / (KH * KW)) * ROWS + (q % TY) * SH + t / KW % KH) * VECS + (SHIFT + t % KW + SW) / 4u)][((SHIFT + t % KW + SW) % 4u)],
                        strip[((((q / TY) * SD + t / (KH * KW)) * ROWS + (q % TY) * SH + t / KW % KH) * VECS + (SHIFT + t % KW + 2u * SW) / 4u)][((SHIFT + t % KW + 2u * SW) % 4u)],
                        strip[((((q / TY) * SD + t / (KH * KW)) * ROWS + (q % TY) * SH + t / KW % KH) * VECS + (SHIFT + t % KW + 3u * SW) / 4u)][((SHIFT + t % KW + 3u * SW) % 4u)],
                    );
                }
                if tz + (q / TY) < params.y_d && ty + (q % TY) < params.y_h {
                    y[y_first + (q / TY) * params.y_plane + (q % TY) * params.y_row + step - LEAD] = sum;
                }
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
