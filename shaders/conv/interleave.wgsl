// y[c, z, y, x] = s[class(z % stride, y % stride, x % stride)][c, z / stride, y / stride, x / stride]: one sample whose parity
// classes lanes.wgsl has stored side by side in rows of whole vec4; with stride 1 it only cuts the rows to their length.
//
// Index map: one invocation = one element of y; x of the grid counts blocks of 256 in a plane, y planes, z channels.
// Exact.

struct Params {
    s_offset: u32,
    s_class: u32,
    s_channel: u32,
    s_plane: u32,
    s_row: u32,
    y_offset: u32,
    y_d: u32,
    y_h: u32,
    y_w: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> s: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

const STRIDE_D: u32 = 2u;
const STRIDE_H: u32 = 2u;
const STRIDE_W: u32 = 2u;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x * 256u + lane;
    let iy = i / params.y_w;
    if iy >= params.y_h {
        return;
    }
    let ix = i - iy * params.y_w;
    let iz = group.y;
    let parity = (iz % STRIDE_D * STRIDE_H + iy % STRIDE_H) * STRIDE_W + ix % STRIDE_W;
    y[params.y_offset + (group.z * params.y_d + iz) * params.y_h * params.y_w + i] = s[
        params.s_offset + parity * params.s_class + group.z * params.s_channel
            + iz / STRIDE_D * params.s_plane + iy / STRIDE_H * params.s_row + ix / STRIDE_W
    ];
}
