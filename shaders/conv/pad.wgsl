// y[c, p] = x[c, p - padding], zeros outside x and in channels that x has not: one sample, with rows of whole vec4.
//
// The copy that lanes.wgsl reads, so that its loads are aligned and need no guards; 4-12 % of a 3x3x3 convolution.
// Index map: one invocation = one vec4 of y; x of the grid counts blocks of 64 in a plane, y planes, z channels.
// Exact.

struct Params {
    x_offset: u32,
    x_c: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    y_offset: u32,
    y_d: u32,
    y_h: u32,
    y_row: u32,
    padding_d: u32,
    padding_h: u32,
    padding_w: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x * 64u + lane;
    let row = i / params.y_row;
    if row >= params.y_h {
        return;
    }
    let c = group.z;
    // Before the near border these wrap round to huge numbers, which fail the same comparison as those beyond the far one.
    let iz = group.y - params.padding_d;
    let iy = row - params.padding_h;
    let ix = (i - row * params.y_row) * 4u - params.padding_w;
    var value = vec4(0.0);
    if c < params.x_c && iz < params.x_d && iy < params.x_h {
        let first = params.x_offset + ((c * params.x_d + iz) * params.x_h + iy) * params.x_w;
        for (var k = 0u; k < 4u; k++) {
            if ix + k < params.x_w {
                value[k] = x[first + ix + k];
            }
        }
    }
    y[params.y_offset + (c * params.y_d + group.y) * params.y_h * params.y_row + i] = value;
}
