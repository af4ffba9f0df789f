// y[c, b] = sum over part b of the values x[n, c, p], n and p counted through: the gradient of a bias, in one stage
// (blocks = 1) or two (the second adds the parts, which then are the "voxels" of one sample).
//
// Index map: one workgroup = one part of one channel; (x, y) of the grid count channels, z the parts. Its 64 invocations
// take every 64th value, then a tree in workgroup memory adds their sums. Written `=`.
// Accuracy: sequential f32 sums of count / (64 * blocks) values, then trees. Deterministic: the order is fixed.

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    batch: u32,
    channels: u32,
    voxels: u32,
    blocks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.y * groups.x + group.x;
    // Workgroups beyond the end add the last channel again and do not store it: a barrier allows no early return.
    let c = min(i, params.channels - 1u);
    let part = (params.voxels + params.blocks - 1u) / params.blocks;
    let begin = group.z * part;
    let end = min(begin + part, params.voxels);
    var sum = 0.0;
    for (var n = 0u; n < params.batch; n++) {
        let first = params.x_offset + n * params.x_batch + c * params.voxels;
        for (var voxel = begin + lane; voxel < end; voxel += 64u) {
            sum += x[first + voxel];
        }
    }
    sums[lane] = sum;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
        }
    }
    if lane == 0u && i < params.channels {
        y[params.y_offset + c * params.blocks + group.z] = sums[0];
    }
}
