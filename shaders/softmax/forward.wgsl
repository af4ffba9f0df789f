// y[c] = exp(x[c] - m) / sum over c of exp(x[c] - m), m = max over c of x[c], for each voxel.
//
// Index map: one invocation = one pack of voxels, all channels; (x, y) of the grid count blocks of 256 packs, z is the
// sample. Two passes over the channels: the first keeps the largest logit so far and the sum relative to it (Milakov and
// Gimelshein 2018), the second writes. Backward needs y alone. Accuracy: that of exp. Deterministic: channels in order.

alias Pack = f32;

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Pack>;
@group(0) @binding(2) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if i >= params.packs {
        return;
    }
    let from_x = params.x_offset + group.z * params.x_batch + i;
    let to_y = params.y_offset + group.z * params.y_batch + i;
    var largest = x[from_x];
    var total = Pack(1.0);
    for (var c = 1u; c < params.channels; c++) {
        let value = x[from_x + c * params.packs];
        let larger = max(largest, value);
        total = total * exp(largest - larger) + exp(value - larger);
        largest = larger;
    }
    let factor = Pack(1.0) / total;
    for (var c = 0u; c < params.channels; c++) {
        y[to_y + c * params.packs] = exp(x[from_x + c * params.packs] - largest) * factor;
    }
}
