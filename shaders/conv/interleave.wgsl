// y[c, z, y, x] = s[class(z % stride, y % stride, x % stride)][c, z / stride, y / stride, x / stride]: one sample whose parity
// classes lanes.wgsl has stored side by side in rows of whole vec4; with stride 1 it only cuts the rows to their length.
//
// Index map: one invocation = one element of y; 256 consecutive ones a workgroup, (x, y) of the grid count the blocks. Exact.

struct Params {
    s_class: u32,
    s_channel: u32,
    s_plane: u32,
    s_row: u32,
    y_offset: u32,
    y_c: u32,
    y_d: u32,
    y_h: u32,
    y_w: u32,
    stride_d: u32,
    stride_h: u32,
    stride_w: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> s: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    let row = i / params.y_w;
    let plane = row / params.y_h;
    let c = plane / params.y_d;
    if c >= params.y_c {
        return;
    }
    let iz = plane % params.y_d;
    let iy = row % params.y_h;
    let ix = i % params.y_w;
    let parity = (iz % params.stride_d * params.stride_h + iy % params.stride_h) * params.stride_w + ix % params.stride_w;
    y[params.y_offset + i] = s[
        parity * params.s_class + c * params.s_channel
            + iz / params.stride_d * params.s_plane + iy / params.stride_h * params.s_row + ix / params.stride_w
    ];
}
