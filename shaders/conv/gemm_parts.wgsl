// dw[o, i] = sum over s of partial[s, o, i]: the second stage of gemm_weight_grad.wgsl and coop_weight_grad.wgsl
//
// Index map: one invocation = one weight; 64 consecutive ones a workgroup, (x, y) of the grid count the blocks.
// Written `=`. Accuracy: one sequential f32 sum over the parts. Deterministic.

struct Params {
    w_offset: u32,
    w_batch: u32,
    columns: u32,
    total: u32,
    parts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> dw: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= params.total {
        return;
    }
    var sum = 0.0;
    for (var part = 0u; part < params.parts; part++) {
        sum += partial[part * params.total + i];
    }
    dw[params.w_offset + i / params.columns * params.w_batch + i % params.columns] = sum;
}
