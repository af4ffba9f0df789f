// y[o] = x[o - before] inside the image; in the border by FILL: 0 `value`, 1 the image mirrored at the centres of its outermost
// voxels, 2 the nearest voxel.
//
// Index map: one invocation = one voxel of y; a workgroup takes 256 consecutive ones of a sample, (x, y) of the grid count
// workgroups, z is the sample.
// Saves nothing. Exact, deterministic.

const FILL: u32 = 0u;
const CONSTANT: u32 = 0u;
const MIRROR: u32 = 1u;
const_assert FILL <= 2u;

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
    before_d: u32,
    before_h: u32,
    before_w: u32,
    value: f32,
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
    let before = vec3<u32>(params.before_d, params.before_h, params.before_w);
    let ahead = at < before;
    let behind = at >= before + in_size;
    var value = params.value;
    if FILL != CONSTANT || !(any(ahead) || any(behind)) {
        var source = min(max(at, before) - before, in_size - 1u);
        if FILL == MIRROR {
            source = select(source, before - at, ahead);
            source = select(source, 2u * (in_size - 1u) + before - at, behind);
        }
        let voxel = ((channel * in_size.x + source.x) * in_size.y + source.y) * in_size.z + source.z;
        value = x[params.x_offset + n * params.x_batch + voxel];
    }
    y[params.y_offset + n * params.y_batch + i] = value;
}
