// dx[c, voxel] = scale * dy[c]: the gradient of a mean over the voxels of a channel, scale = 1 / voxels.
//
// Index map: one workgroup = 256 consecutive elements of one sample; (x, y) of the grid count workgroups, z is the sample.
// dx is written `=`. One rounding. Deterministic.

struct Params {
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    per_channel: u32,
    per_sample: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

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
    dx[params.dx_offset + n * params.dx_batch + i] =
        params.scale * dy[params.dy_offset + n * params.dy_batch + i / params.per_channel];
}
