// dx[c] = y[c] * (dy[c] - sum over k of y[k] * dy[k]), for each voxel; y is the output of the forward pass.
//
// Index map: one invocation = one pack of voxels, all channels; (x, y) of the grid count blocks of 256 packs, z is the
// sample. Written `=`. Accuracy: O(C) roundings. Deterministic: channels in order.

alias Pack = f32;

struct Params {
    y_offset: u32,
    y_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    packs: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> y: array<Pack>;
@group(0) @binding(2) var<storage, read> dy: array<Pack>;
@group(0) @binding(3) var<storage, read_write> dx: array<Pack>;

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
    let from_y = params.y_offset + group.z * params.y_batch + i;
    let from_dy = params.dy_offset + group.z * params.dy_batch + i;
    let to_dx = params.dx_offset + group.z * params.dx_batch + i;
    var inner = Pack(0.0);
    for (var c = 0u; c < params.channels; c++) {
        inner += y[from_y + c * params.packs] * dy[from_dy + c * params.packs];
    }
    for (var c = 0u; c < params.channels; c++) {
        let at = c * params.packs;
        dx[to_dx + at] = y[from_y + at] * (dy[from_dy + at] - inner);
    }
}
