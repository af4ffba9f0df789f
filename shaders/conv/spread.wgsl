// y[n, c, p * stride] = x[n, c, p], zeros between: dy as the input gradient of a strided depthwise convolution reads it, which
// then is a convolution of stride 1. Rows of y are whole vec4, filled up with zeros.
//
// Index map: one invocation = one vec4 of y; 64 consecutive ones a workgroup, (x, y) of the grid count the blocks of a
// sample, z is the sample. Exact.

struct Params {
    x_offset: u32,
    x_batch: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    channels: u32,
    y_d: u32,
    y_h: u32,
    y_row: u32,
    stride_d: u32,
    stride_h: u32,
    stride_w: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let row = i / params.y_row;
    let plane = row / params.y_h;
    let c = plane / params.y_d;
    if c >= params.channels {
        return;
    }
    let z = plane % params.y_d;
    let h = row % params.y_h;
    var value = vec4(0.0);
    if z % params.stride_d == 0u && h % params.stride_h == 0u {
        let first = params.x_offset + group.z * params.x_batch
            + ((c * params.x_d + z / params.stride_d) * params.x_h + h / params.stride_h) * params.x_w;
        for (var k = 0u; k < 4u; k++) {
            let column = i % params.y_row * 4u + k;
            if column % params.stride_w == 0u && column / params.stride_w < params.x_w {
                value[k] = x[first + column / params.stride_w];
            }
        }
    }
    y[group.z * params.channels * params.y_d * params.y_h * params.y_row + i] = value;
}
