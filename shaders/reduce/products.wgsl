// sum(a * b) over the voxels of each channel of each sample, or with NEGATIVE = 1 sum(a * min(b, 0)), as partial results:
// the gradient of a factor of a channel, and that of a slope of PReLU.
//
// Index map: one workgroup = LANES * STEPS consecutive packs of one channel, lane l taking l, l + LANES, ...; x of the
// grid counts blocks, y channels, z samples. Each invocation adds up to STEPS packs, each component a stream of its own, and
// stores at n * partial_n + c * partial_c + its number. reduce/merge_sums adds them in a fixed tree.
//
// Itself part of a backward pass, it saves nothing. Accuracy: sums of up to STEPS products in sequence; the error then
// grows with the depth of the tree, not with the voxels. Deterministic: one writer a partial, in an order that the shape
// alone decides.

alias Pack = f32;
const NEGATIVE: u32 = 0;
const LANES: u32 = 256;
const STEPS: u32 = 16;

struct Params {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    packs: u32,
    slots: u32,
    partial_n: u32,
    partial_c: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Pack>;
@group(0) @binding(2) var<storage, read> b: array<Pack>;
@group(0) @binding(3) var<storage, read_write> partials: array<Pack>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group.x;
    let slot = block * LANES + lane;
    if slot >= params.slots {
        return;
    }
    let n = group.z;
    let c = group.y;
    let from_a = params.a_offset + n * params.a_batch + c * params.packs;
    let from_b = params.b_offset + n * params.b_batch + c * params.packs;
    let first = block * LANES * STEPS + lane;
    var total = Pack(0.0);
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        var factor = b[from_b + i];
        if NEGATIVE == 1 {
            factor = select(factor, Pack(0.0), factor > Pack(0.0));
        }
        total += a[from_a + i] * factor;
    }
    partials[n * params.partial_n + c * params.partial_c + slot] = total;
}
