// da = dy * scale * (a - b), dy a scalar: with scale = 2 / M the gradient of the mean of M squared differences with respect to a.
//
// Index map: one workgroup = LANES * STEPS consecutive packs of one sample, lane l taking l, l + LANES, ...; (x, y) of the grid
// count blocks, z is the sample. Written `=`. Accuracy: a few roundings. Deterministic: each output has one writer.

alias Pack = f32;
const LANES: u32 = 256;
const STEPS: u32 = 8;

struct Params {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    da_offset: u32,
    da_batch: u32,
    dy_offset: u32,
    packs: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Pack>;
@group(0) @binding(2) var<storage, read> b: array<Pack>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> da: array<Pack>;

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
    let to_da = params.da_offset + n * params.da_batch;
    let factor = Pack(params.scale * dy[params.dy_offset]);
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        da[to_da + i] = factor * (a[from_a + i] - b[from_b + i]);
    }
}
