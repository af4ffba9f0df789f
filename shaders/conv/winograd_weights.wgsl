// U[point, c, o] = (G x G x G) w[o, c]: the weights of Winograd's F(2, 3) along each axis with three taps.
//
// Along an axis with three taps g the four points are G g = (g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2); an axis with one tap
// has one point (Winograd 1980; Lavin & Gray 2016, arXiv 1509.09308, equation 4). For the input gradient the taps run backwards and the
// weight's first two axes are exchanged; `first`, `step` and the strides of the channels say so.
//
// Index map: one invocation = one pair (c, o) of U, whose channels are filled up with zeros to whole steps and tiles of
// winograd_product.wgsl, o fastest. Accuracy: up to two roundings an axis. Deterministic: each number has one writer.

struct Params {
    w_offset: u32,
    out_stride: u32,
    in_stride: u32,
    channels_in: u32,
    channels_out: u32,
    padded_in: u32,
    padded_out: u32,
    first: u32,
    step: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> u: array<f32>;

const TAPS_D: u32 = 3u;
const TAPS_H: u32 = 3u;
const TAPS_W: u32 = 3u;

// One point for one tap, four for three.
const POINTS_D: u32 = TAPS_D + TAPS_D / 3u;
const POINTS_H: u32 = TAPS_H + TAPS_H / 3u;
const POINTS_W: u32 = TAPS_W + TAPS_W / 3u;
const POINTS: u32 = POINTS_D * POINTS_H * POINTS_W;

// Widest use: taps along the axes that are still to be transformed, points along the others.
var<private> g: array<f32, POINTS>;

// Point `point` of the three numbers from `i` on, `step` apart; of one number it is the number.
fn at_point(point: u32, taps: u32, i: u32, step: u32) -> f32 {
    if taps == 1u || point == 0u {
        return g[i];
    }
    if point == 3u {
        return g[i + 2u * step];
    }
    let odd = select(g[i + step], -g[i + step], point == 2u);
    return 0.5 * (g[i] + odd + g[i + 2u * step]);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pair = (group.y * groups.x + group.x) * 64u + lane;
    if pair >= params.padded_in * params.padded_out {
        return;
    }
    let c = pair / params.padded_out;
    let o = pair % params.padded_out;
    let is_there = c < params.channels_in && o < params.channels_out;
    let base = params.w_offset + params.first + select(0u, o * params.out_stride + c * params.in_stride, is_there);
    // unroll
    for (var t: u32 = 0u; t < TAPS_D * TAPS_H * TAPS_W; t++) {
        // Steps of one tap back wrap around: 2^32 - 1 is -1.
        g[t] = select(0.0, w[base + params.step * t], is_there);
    }
    var wide: array<f32, POINTS>;
    // unroll
    for (var i: u32 = 0u; i < TAPS_D * TAPS_H * POINTS_W; i++) {
        wide[i] = at_point(i % POINTS_W, TAPS_W, i / POINTS_W * TAPS_W, 1u);
    }
    g = wide;
    // unroll
    for (var i: u32 = 0u; i < TAPS_D * POINTS_H * POINTS_W; i++) {
        let plane = i / (POINTS_H * POINTS_W) * (TAPS_H * POINTS_W);
        wide[i] = at_point(i / POINTS_W % POINTS_H, TAPS_H, plane + i % POINTS_W, POINTS_W);
    }
    g = wide;
    let stride = params.padded_in * params.padded_out;
    // unroll
    for (var i: u32 = 0u; i < POINTS; i++) {
        u[i * stride + pair] = at_point(i / (POINTS_H * POINTS_W), TAPS_D, i % (POINTS_H * POINTS_W), POINTS_H * POINTS_W);
    }
}
