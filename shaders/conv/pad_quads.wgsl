// y[c, p] = x[c, p - padding], zeros outside x and in channels that x has not: pad.wgsl for rows of x that are whole vec4
// and at most three zeros before them.
//
// For adapters that are a CPU with subgroups of exactly 8 lanes: a lane loads a vec4 of x where it lies, and takes the numbers
// that the padding shifts in from the lane before it.
// Index map: one invocation = one vec4 of y; x of the grid counts blocks of 256 in a plane, y planes, z channels.
// Exact.

struct Params {
    x_offset: u32,
    x_c: u32,
    x_d: u32,
    x_h: u32,
    x_row: u32,
    y_offset: u32,
    y_d: u32,
    y_h: u32,
    y_row: u32,
    padding_d: u32,
    padding_h: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

const PADDING_W: u32 = 1u;
const WORKGROUP: u32 = 256u;
const_assert PADDING_W < 4u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let i = group.x * WORKGROUP + index;
    let row = i / params.y_row;
    let column = i - row * params.y_row;
    // Before the near border these wrap round to huge numbers, which fail the same comparison as those beyond the far one.
    let iz = group.y - params.padding_d;
    let iy = row - params.padding_h;
    let is_there = group.z < params.x_c && iz < params.x_d && iy < params.x_h;
    let at = params.x_offset + ((group.z * params.x_d + iz) * params.x_h + iy) * params.x_row + column;
    var here = vec4(0.0);
    if is_there && column < params.x_row {
        here = x[at];
    }
    var before = subgroupShuffle(here, max(lane, 1u) - 1u);
    if lane == 0u && is_there && column - 1u < params.x_row {
        before = x[at - 1u];
    }
    if column == 0u {
        before = vec4(0.0);
    }
    let both = array<f32, 8>(before.x, before.y, before.z, before.w, here.x, here.y, here.z, here.w);
    var value = vec4(0.0);
    // unroll
    for (var k: u32 = 0u; k < 4u; k++) {
        value[k] = both[4u - PADDING_W + k];
    }
    if row < params.y_h {
        y[params.y_offset + (group.z * params.y_d + group.y) * params.y_h * params.y_row + i] = value;
    }
}
