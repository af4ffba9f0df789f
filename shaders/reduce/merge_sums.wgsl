// Sums the members of each row, FAN at a time: result q of a row adds members q, q + results, q + 2 results, ... in that
// order, so that neighbours read neighbours.
//
// Index map: one invocation = one result; result i = row * results + q lies at
// offset + i / inner * outer_stride + i % inner, in packs. Components of a pack stay sums of their own; the last run takes them as
// scalars. Accuracy: at most FAN - 1 roundings. Deterministic: fixed order.

alias Pack = f32;
const FAN: u32 = 128;

struct Params {
    rows: u32,
    members: u32,
    results: u32,
    offset: u32,
    inner: u32,
    outer_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<Pack>;
@group(0) @binding(2) var<storage, read_write> merged: array<Pack>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= params.rows * params.results {
        return;
    }
    let row = i / params.results;
    let q = i % params.results;
    var total = Pack(0.0);
    for (var j = 0u; j < FAN; j++) {
        let member = q + j * params.results;
        if member >= params.members {
            break;
        }
        total += source[row * params.members + member];
    }
    merged[params.offset + i / params.inner * params.outer_stride + i % params.inner] = total;
}
