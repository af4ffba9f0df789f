// y[o] = sum over the 2 x 2 x 2 voxels around p(o) of weight * x: trilinear; bilinear and linear where an axis has one voxel.
//
// Along each axis p(o) = max(0, o * mul + add) / den in whole numbers: the quotient is the lower voxel, the remainder / den the
// weight of the upper one, the last voxel twice beyond the end. Positions in f32 lose digits as images grow.
// Index map: one invocation = one output; a workgroup takes 256 consecutive ones of a sample, (x, y) of the grid count
// workgroups, z is the sample. Saves nothing. Accuracy: three rounded weights, seven sums. Deterministic.

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
    let low = position / den;
    let high = min(low + 1u, in_size - 1u);
    let weight = vec3<f32>(position % den) / vec3<f32>(den);

    let base = params.x_offset + n * params.x_batch + channel * in_size.x * in_size.y * in_size.z;
    let l0 = base + (low.x * in_size.y + low.y) * in_size.z;
    let l1 = base + (low.x * in_size.y + high.y) * in_size.z;
    let l2 = base + (high.x * in_size.y + low.y) * in_size.z;
    let l3 = base + (high.x * in_size.y + high.y) * in_size.z;
    // The four lines (z, y) as one vector, so that each axis halves it.
    let left = vec4<f32>(x[l0 + low.z], x[l1 + low.z], x[l2 + low.z], x[l3 + low.z]);
    let right = vec4<f32>(x[l0 + high.z], x[l1 + high.z], x[l2 + high.z], x[l3 + high.z]);
    let along_x = left * (1.0 - weight.z) + right * weight.z;
    let along_y = along_x.xz * (1.0 - weight.y) + along_x.yw * weight.y;
    y[params.y_offset + n * params.y_batch + i] = along_y.x * (1.0 - weight.x) + along_y.y * weight.x;
}
