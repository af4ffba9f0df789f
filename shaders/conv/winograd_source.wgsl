// V[point, c, t] = (B^T x B^T x B^T) d: the tiles of the source for Winograd's F(2, 3) along each axis with three taps.
//
// Along such an axis a tile sees four inputs and gives two outputs: B^T d = (d0 - d2, d1 + d2, d2 - d1, d1 - d3); along an axis with
// one tap it is one voxel (Winograd 1980; Lavin & Gray 2016, arXiv 1509.09308, equation 4). Zeros stand for voxels outside x.
//
// Index map: one invocation = one tile t of one channel c; (x, y) of the grid count blocks of 64 tiles, z channels. Tiles run over
// (n, z, y, x) of the target from `first_tile` on, a chunk at a time. Accuracy: one rounding an axis. Deterministic.

struct Params {
    x_offset: u32,
    x_batch: u32,
    x_channel: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    v_point: u32,
    v_channel: u32,
    first_tile: u32,
    tiles: u32,
    tiles_d: u32,
    tiles_h: u32,
    tiles_w: u32,
    padding_d: u32,
    padding_h: u32,
    padding_w: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> v: array<f32>;

const TAPS_D: u32 = 3u;
const TAPS_H: u32 = 3u;
const TAPS_W: u32 = 3u;

// Inputs that a tile sees, which are as many as its points.
const POINTS_D: u32 = TAPS_D + TAPS_D / 3u;
const POINTS_H: u32 = TAPS_H + TAPS_H / 3u;
const POINTS_W: u32 = TAPS_W + TAPS_W / 3u;
const POINTS: u32 = POINTS_D * POINTS_H * POINTS_W;

var<private> d: array<f32, POINTS>;

// B^T along the four numbers from `i` on, `step` apart.
fn transform(i: u32, step: u32) {
    let a = vec4(d[i], d[i + step], d[i + 2u * step], d[i + 3u * step]);
    d[i] = a.x - a.z;
    d[i + step] = a.y + a.z;
    d[i + 2u * step] = a.z - a.y;
    d[i + 3u * step] = a.y - a.w;
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
    let c = group.z;
    let tile = params.first_tile + t;
    let row = tile / params.tiles_w;
    let plane = row / params.tiles_h;
    // Outputs of a tile are half its inputs, or one. Before the near border these wrap round to huge numbers.
    let corner = vec3(
        plane % params.tiles_d * ((POINTS_D + 1u) / 2u) - params.padding_d,
        row % params.tiles_h * ((POINTS_H + 1u) / 2u) - params.padding_h,
        tile % params.tiles_w * ((POINTS_W + 1u) / 2u) - params.padding_w,
    );
    let base = params.x_offset + plane / params.tiles_d * params.x_batch + c * params.x_channel;
    // unroll
    for (var i: u32 = 0u; i < POINTS; i++) {
        let p = corner + vec3(i / (POINTS_H * POINTS_W), i / POINTS_W % POINTS_H, i % POINTS_W);
        let is_inside = p.x < params.x_d && p.y < params.x_h && p.z < params.x_w;
        let at = base + (p.x * params.x_h + p.y) * params.x_w + p.z;
        d[i] = select(0.0, x[select(params.x_offset, at, is_inside)], is_inside);
    }
    if TAPS_W == 3u {
        // unroll
        for (var i: u32 = 0u; i < POINTS / POINTS_W; i++) {
            transform(i * POINTS_W, 1u);
        }
    }
    if TAPS_H == 3u {
        // unroll
        for (var i: u32 = 0u; i < POINTS / POINTS_H; i++) {
            transform(i / POINTS_W * (POINTS_H * POINTS_W) + i % POINTS_W, POINTS_W);
        }
    }
    if TAPS_D == 3u {
        // unroll
        for (var i: u32 = 0u; i < POINTS / POINTS_D; i++) {
            transform(i, POINTS_H * POINTS_W);
        }
    }
    // unroll
    for (var i: u32 = 0u; i < POINTS; i++) {
        v[i * params.v_point + c * params.v_channel + t] = d[i];
    }
}
