// inner[i] = sum over the channels of a head of dy[i] * y[i], for each query i: what the gradient of a softmax takes off each
// of its terms (Dao et al. 2022, appendix B).
//
// Index map: one invocation = one pack of queries of one head; x of the grid counts blocks of 64 packs, y heads, z samples.
// Itself part of a backward pass, it saves nothing. Accuracy: a sequential sum of `head` products. Deterministic.

alias Pack = f32;

struct Params {
    y_offset: u32,
    y_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    inner_offset: u32,
    inner_batch: u32,
    packs: u32,
    head: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> y: array<Pack>;
@group(0) @binding(2) var<storage, read> dy: array<Pack>;
@group(0) @binding(3) var<storage, read_write> inner: array<Pack>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x * 64u + lane;
    if i >= params.packs {
        return;
    }
    let first = group.y * params.head * params.packs + i;
    let from_y = params.y_offset + group.z * params.y_batch + first;
    let from_dy = params.dy_offset + group.z * params.dy_batch + first;
    var sum = Pack(0.0);
    for (var c = 0u; c < params.head; c++) {
        sum += dy[from_dy + c * params.packs] * y[from_y + c * params.packs];
    }
    inner[params.inner_offset + group.z * params.inner_batch + group.y * params.packs + i] = sum;
}
