// y[n, p, h, w] = x[n, p, h - padding_h, w - padding_w], zeros outside x; p counts the planes (c, d) of a sample
//
// The copy that weight_grad_lanes.wgsl reads, of x with its halo and of dy in whole tiles, so that its loads are
// aligned and need no guards; 1-3 % of a 3x3x3 weight gradient. Depth is not padded: that kernel skips planes outside x.
// Index map: one invocation = one vec4 of y; 64 consecutive ones a workgroup, (x, y) of the grid count the blocks of a
// sample, z is the sample. Exact.

struct Params {
    x_offset: u32,
    x_batch: u32,
    x_h: u32,
    x_w: u32,
    planes: u32,
    y_h: u32,
    y_row: u32,
    padding_h: u32,
    padding_w: u32,
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
    if plane >= params.planes {
        return;
    }
    // Before the near border these wrap round to huge numbers, which fail the comparison like those beyond the far one.
    let iy = row % params.y_h - params.padding_h;
    let ix = i % params.y_row * 4u - params.padding_w;
    var value = vec4(0.0);
    if iy < params.x_h {
        let first = params.x_offset + group.z * params.x_batch + (plane * params.x_h + iy) * params.x_w;
        for (var k = 0u; k < 4u; k++) {
            if ix + k < params.x_w {
                value[k] = x[first + ix + k];
            }
        }
    }
    y[group.z * params.planes * params.y_h * params.y_row + i] = value;
}
