// lattices.wgsl for rows that are whole vec4 on both sides, with no zeros before the rows of x: STRIDE_W vec4 of x hold the
// same numbers as one vec4 of each of STRIDE_W lattices, and change places in registers. Extents and strides of rows,
// x_w and s_w among them, are in vec4.
//
// Index map: one invocation = one vec4 of all lattices of one channel; 64 consecutive ones a workgroup, (x, y) of the grid
// count the workgroups. Saves nothing. Written `=`. Exact but for the bias, which is added in f32. Deterministic.

struct Params {
    x_offset: u32,
    x_batch: u32,
    x_channel: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    s_offset: u32,
    s_batch: u32,
    s_channel: u32,
    s_class: u32,
    s_d: u32,
    s_h: u32,
    s_w: u32,
    before_d: u32,
    before_h: u32,
    before_w: u32,
    stride_d: u32,
    stride_h: u32,
    stride_w: u32,
    samples: u32,
    channels: u32,
    planes: u32,
    rows: u32,
    columns: u32,
    bias_offset: u32,
    has_bias: u32,
}

const JOIN: u32 = 0u;
const STRIDE_W: u32 = 2u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let row = i / params.columns;
    let column = i - row * params.columns;
    let plane = row / params.rows;
    let u_y = row - plane * params.rows;
    let volume = plane / params.planes;
    let u_z = plane - volume * params.planes;
    let n = volume / params.channels;
    let c = volume - n * params.channels;
    if n >= params.samples {
        return;
    }
    var shift = 0.0;
    if params.has_bias != 0u {
        shift = bias[params.bias_offset + c];
    }
    let x_first = params.x_offset + n * params.x_batch + c * params.x_channel + column * STRIDE_W;
    let is_in_s = u_z < params.s_d && u_y < params.s_h && column < params.s_w;
    var s_at = params.s_offset + n * params.s_batch + c * params.s_channel + (u_z * params.s_h + u_y) * params.s_w + column;
    for (var r_z = 0u; r_z < params.stride_d; r_z++) {
        let z = u_z * params.stride_d + r_z - params.before_d;
        for (var r_y = 0u; r_y < params.stride_h; r_y++) {
            let y = u_y * params.stride_h + r_y - params.before_h;
            let is_row = z < params.x_d && y < params.x_h;
            let x_row = x_first + (z * params.x_h + y) * params.x_w;
            var given: array<vec4<f32>, STRIDE_W>;
            // unroll
            for (var v: u32 = 0u; v < STRIDE_W; v++) {
                var there: bool;
                var at: u32;
                if JOIN == 1u {
                    there = is_in_s;
                    at = s_at + v * params.s_class;
                } else {
                    there = is_row && column * STRIDE_W + v < params.x_w;
                    at = x_row + v;
                }
                if there {
                    given[v] = source[at];
                }
            }
            // unroll
            for (var v: u32 = 0u; v < STRIDE_W; v++) {
                var taken: vec4<f32>;
                // unroll
                for (var k: u32 = 0u; k < 4u; k++) {
                    if JOIN == 1u {
                        taken[k] = given[(4u * v + k) % STRIDE_W][(4u * v + k) / STRIDE_W];
                    } else {
                        taken[k] = given[(k * STRIDE_W + v) / 4u][(k * STRIDE_W + v) % 4u];
                    }
                }
                if JOIN == 0u {
                    result[s_at + v * params.s_class] = taken;
                } else if is_row && column * STRIDE_W + v < params.x_w {
                    result[x_row + v] = taken + shift;
                }
            }
            s_at += STRIDE_W * params.s_class;
        }
    }
}
