// y[c, j] = scale * sum over t of x[c, j + t * sums], 0 <= t < FAN: one level of a tree over the voxels of a channel.
//
// Index map: one invocation = one sum; a workgroup takes 64 consecutive ones of a sample (few, so that a small tensor
// still fills several processors), (x, y) of the grid count workgroups, z is the sample. Neighbours read neighbours.
// Accuracy: 64 terms in sequence a level, so the error grows with the sum of the levels, not with the voxels.
// Deterministic: one writer a sum, and the order depends on the shape only. Saves nothing for backward. Rejected: a tree in workgroup memory, whose accesses cost a CPU adapter as much as
// storage, for levels that are 64 times smaller than the one before.

const FAN: u32 = 64u;

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_channel: u32,
    sums: u32,
    per_sample: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= params.per_sample {
        return;
    }
    let n = group.z;
    let base = params.x_offset + n * params.x_batch + i / params.sums * params.per_channel;
    let j = i % params.sums;
    var sum = 0.0;
    for (var t = 0u; t < FAN; t++) {
        let voxel = j + t * params.sums;
        if voxel < params.per_channel {
            sum += x[base + voxel];
        }
    }
    y[params.y_offset + n * params.y_batch + i] = sum * params.scale;
}
