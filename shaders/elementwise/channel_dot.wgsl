// y[n, v] = sum over c of a[n, c, v] * b[n, c, v].
//
// Index map: one invocation = one pack of voxels; a workgroup takes LANES * STEPS consecutive ones, lane l taking l,
// l + LANES, ...; (x, y) of the grid count blocks, z samples. Neighbours read neighbours. Saves nothing. Written `=`.
// Accuracy: a sum of C products in sequence. Deterministic: one writer a voxel, channels in rising order.

alias Pack = f32;
const LANES: u32 = 256;
const STEPS: u32 = 8;

struct Params {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Pack>;
@group(0) @binding(2) var<storage, read> b: array<Pack>;
@group(0) @binding(3) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = group.z;
    let first = (group.y * groups.x + group.x) * LANES * STEPS + lane;
    let from_a = params.a_offset + n * params.a_batch;
    let from_b = params.b_offset + n * params.b_batch;
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        var sum = Pack(0.0);
        for (var c = 0u; c < params.channels; c++) {
            let at = c * params.packs + i;
            sum += a[from_a + at] * b[from_b + at];
        }
        y[params.y_offset + n * params.y_batch + i] = sum;
    }
}
