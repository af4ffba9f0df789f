// y = a + b, element by element.
//
// Index map: one workgroup = 256 consecutive voxels of one channel; (x, y) of the grid count blocks of voxels over
// all channels, z is the sample. Saves nothing: the gradient of both inputs is dy itself. Written `=`.
// Accuracy: one rounding. Deterministic: each output has one writer.

struct Params {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

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
    y[params.y_offset + n * params.y_batch + i] =
        a[params.a_offset + n * params.a_batch + i] + b[params.b_offset + n * params.b_batch + i];
}
