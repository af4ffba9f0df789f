// y = (A^T x A^T x A^T) M + bias: the outputs of the tiles of Winograd's F(2, 3) along each axis with three taps.
//
// Along such an axis A^T m = (m0 + m1 + m2, m1 - m2 - m3); along an axis with one tap it is the number (Winograd 1980; Lavin & Gray
// 2016, arXiv 1509.09308, equation 4).
//
// Index map: one invocation = one tile t of one channel o; (x, y) of the grid count blocks of 64 tiles, z channels; tiles as in
// winograd_source.wgsl. Written `=`. Accuracy: two roundings an axis. Deterministic: each output has one writer.

struct Params {
    y_offset: u32,
    y_batch: u32,
    y_channel: u32,
    y_d: u32,
    y_h: u32,
    y_w: u32,
    m_point: u32,
    m_channel: u32,
    first_tile: u32,
    tiles: u32,
    tiles_d: u32,
    tiles_h: u32,
    tiles_w: u32,
    bias_offset: u32,
    has_bias: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> m: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const TAPS_D: u32 = 3u;
const TAPS_H: u32 = 3u;
const TAPS_W: u32 = 3u;

const POINTS_D: u32 = TAPS_D + TAPS_D / 3u;
const POINTS_H: u32 = TAPS_H + TAPS_H / 3u;
const POINTS_W: u32 = TAPS_W + TAPS_W / 3u;
const POINTS: u32 = POINTS_D * POINTS_H * POINTS_W;
const OUT_D: u32 = (POINTS_D + 1u) / 2u;
const OUT_H: u32 = (POINTS_H + 1u) / 2u;
const OUT_W: u32 = (POINTS_W + 1u) / 2u;

var<private> sums: array<f32, POINTS>;

// A^T along the four numbers from `i` on, `step` apart, into the first two.
fn transform(i: u32, step: u32) {
    let near = sums[i + step] + sums[i + 2u * step];
    let far = sums[i + step] - sums[i + 2u * step];
    sums[i] += near;
    sums[i + step] = far - sums[i + 3u * step];
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = (group.y * groups.x + group.x) * 64u + lane;
    if t >= params.tiles {
        return;
    }
    let o = group.z;
    // unroll
    for (var i: u32 = 0u; i < POINTS; i++) {
        sums[i] = m[i * params.m_point + o * params.m_channel + t];
    }
    if TAPS_D == 3u {
        // unroll
        for (var i: u32 = 0u; i < POINTS_H * POINTS_W; i++) {
            transform(i, POINTS_H * POINTS_W);
        }
    }
    if TAPS_H == 3u {
        // unroll
        for (var i: u32 = 0u; i < OUT_D * POINTS_W; i++) {
            transform(i / POINTS_W * (POINTS_H * POINTS_W) + i % POINTS_W, POINTS_W);
        }
    }
    if TAPS_W == 3u {
        // unroll
        for (var i: u32 = 0u; i < OUT_D * OUT_H; i++) {
            transform((i / OUT_H * POINTS_H + i % OUT_H) * POINTS_W, 1u);
        }
    }
    var shift = 0.0;
    if params.has_bias != 0u {
        shift = bias[params.bias_offset + o];
    }
    let tile = params.first_tile + t;
    let row = tile / params.tiles_w;
    let plane = row / params.tiles_h;
    let corner = vec3(plane % params.tiles_d * OUT_D, row % params.tiles_h * OUT_H, tile % params.tiles_w * OUT_W);
    let base = params.y_offset + plane / params.tiles_d * params.y_batch + o * params.y_channel;
    // unroll
    for (var i: u32 = 0u; i < OUT_D * OUT_H * OUT_W; i++) {
        let inner = vec3(i / (OUT_H * OUT_W), i / OUT_W % OUT_H, i % OUT_W);
        let p = corner + inner;
        if p.x < params.y_d && p.y < params.y_h && p.z < params.y_w {
            y[base + (p.x * params.y_h + p.y) * params.y_w + p.z] =
                sums[(inner.x * POINTS_H + inner.y) * POINTS_W + inner.z] + shift;
        }
    }
}
