// s[r][u] = x[u * stride + r - before] for every residue r of a stride: an image split into its lattices, each of them an
// image; with JOIN = 1 the other way round, plus a bias[c] where there is one.
//
// On the lattices by its stride a convolution has stride 1 and a smaller window, on those by its dilation it has no dilation.
// Numbers that one side has not are zeros on the other. The fine side is x here, the side of the lattices s; `before` zeros
// precede x. Where lattices lie by s_class apart: as channels for a stride, as samples for a dilation.
//
// Index map: one invocation = one voxel u of all lattices of one channel, of which it moves one number each; 64 consecutive ones
// a workgroup, (x, y) of the grid count the workgroups. Its divisions, which cost a CPU adapter more than loads, so serve
// all residues. lattices_quads.wgsl moves four numbers at a time.
//
// Measured with the convolution behind it, ms beside conv/gemm in the same run (shared 2-core adapter, 2026-11-22): 16x16 stride 16
// 3->384 at 224^2 7.4 where that took 237, 7x7 stride 2 3->64 at 224^2 9.0 (360), 3x3x3 dilation 2 32->32 at 32^3 28 (500).
// Saves nothing. Written `=`. Exact but for the bias, which is added in f32. Deterministic.

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

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;

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
    let x_first = params.x_offset + n * params.x_batch + c * params.x_channel;
    let is_in_s = u_z < params.s_d && u_y < params.s_h && column < params.s_w;
    var s_at = params.s_offset + n * params.s_batch + c * params.s_channel + (u_z * params.s_h + u_y) * params.s_w + column;
    for (var r_z = 0u; r_z < params.stride_d; r_z++) {
        // Before the near border these wrap round to huge numbers, which fail the same comparison as those beyond the far one.
        let z = u_z * params.stride_d + r_z - params.before_d;
        for (var r_y = 0u; r_y < params.stride_h; r_y++) {
            let y = u_y * params.stride_h + r_y - params.before_h;
            let is_row = z < params.x_d && y < params.x_h;
            let x_row = x_first + (z * params.x_h + y) * params.x_w;
            for (var r_x = 0u; r_x < params.stride_w; r_x++) {
                let x = column * params.stride_w + r_x - params.before_w;
                let is_in_x = is_row && x < params.x_w;
                var value = shift;
                if JOIN == 1u {
                    if is_in_s {
                        value += source[s_at];
                    }
                    if is_in_x {
                        result[x_row + x] = value;
                    }
                } else {
                    if is_in_x {
                        value = source[x_row + x];
                    }
                    result[s_at] = value;
                }
                s_at += params.s_class;
            }
        }
    }
}
