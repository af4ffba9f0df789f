// y[o] = x[floor(p(o))], p(o) = (o * mul + add) / den along each axis in whole numbers: nearest neighbour.
//
// Whole numbers give the voxel of the definition; f32 can land one beside it where p is a whole number.
// Index map: one invocation = one output; a workgroup takes 256 consecutive ones of a sample, (x, y) of the grid count
// workgroups, z is the sample. Saves nothing. Exact (labels stay labels), deterministic.

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
    in_d: u32,
    in_h: u32,
    in_w: u32,
    out_d: u32,
    out_h: u32,
    out_w: u32,
    mul_d: u32,
    mul_h: u32,
    mul_w: u32,
    add_d: i32,
    add_h: i32,
    add_w: i32,
    den_d: u32,
    den_h: u32,
    den_w: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if i >= params.per_sample {
        return;
    }
    let n = group.z;
    let out_size = vec3<u32>(params.out_d, params.out_h, params.out_w);
    let in_size = vec3<u32>(params.in_d, params.in_h, params.in_w);
    let row = i / out_size.z;
    let plane = row / out_size.y;
    let channel = plane / out_size.x;
    let at = vec3<u32>(plane % out_size.x, row % out_size.y, i % out_size.z);
    let mul = vec3<u32>(params.mul_d, params.mul_h, params.mul_w);
    let add = vec3<i32>(params.add_d, params.add_h, params.add_w);
    let den = vec3<u32>(params.den_d, params.den_h, params.den_w);
    let position = vec3<u32>(max(vec3<i32>(at * mul) + add, vec3<i32>(0)));
    let source = position / den;
    let channel_at = params.x_offset + n * params.x_batch + channel * in_size.x * in_size.y * in_size.z;
    y[params.y_offset + n * params.y_batch + i] =
        x[channel_at + (source.x * in_size.y + source.y) * in_size.z + source.z];
}
