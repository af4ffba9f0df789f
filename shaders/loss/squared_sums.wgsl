// scale * sum((a - b)^2) over the elements, as partial results.
//
// Index map: one workgroup = LANES * STEPS consecutive packs of one sample, lane l taking l, l + LANES, ...; (x, y) of the grid
// count blocks, z is the sample. Each invocation adds up to STEPS packs, each component a stream of its own, and stores at
// n * slots + its number. reduce/merge_sums adds them in a fixed tree.
// Saves nothing: the gradient needs a and b alone. Accuracy: three roundings a term, then the tree. Deterministic: fixed order.

alias Pack = f32;
const LANES: u32 = 256;
const STEPS: u32 = 16;

struct Params {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    packs: u32,
    slots: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Pack>;
@group(0) @binding(2) var<storage, read> b: array<Pack>;
@group(0) @binding(3) var<storage, read_write> partials: array<Pack>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = group.z;
    let block = group.y * groups.x + group.x;
    let slot = block * LANES + lane;
    if slot >= params.slots {
        return;
    }
    let first = block * LANES * STEPS + lane;
    let from_a = params.a_offset + n * params.a_batch;
    let from_b = params.b_offset + n * params.b_batch;
    var total = Pack(0.0);
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        let d = a[from_a + i] - b[from_b + i];
        total += d * d;
    }
    partials[n * params.slots + slot] = params.scale * total;
}
