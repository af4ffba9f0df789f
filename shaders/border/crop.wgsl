// y[o] = x[o + start]: a box out of an image, and the gradient of constant padding.
//
// Index map: one invocation = one voxel of y; a workgroup takes 256 consecutive ones of a sample, (x, y) of the grid count
// workgroups, z is the sample.
// Saves nothing. Exact, deterministic.

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
    start_d: u32,
    start_h: u32,
    start_w: u32,
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
    let source = at + vec3<u32>(params.start_d, params.start_h, params.start_w);
    let voxel = ((channel * in_size.x + source.x) * in_size.y + source.y) * in_size.z + source.z;
    y[params.y_offset + n * params.y_batch + i] = x[params.x_offset + n * params.x_batch + voxel];
}
