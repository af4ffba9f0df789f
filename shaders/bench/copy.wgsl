// The bandwidth of device memory for the access that suits every adapter: y = x in packs of four.
//
// Index map: one workgroup = 256 * STEPS consecutive packs, lane l taking l, l + 256, ... Offsets and sizes count packs.
// Exact. Deterministic: each output has one writer.

const STEPS: u32 = 8;

struct Params {
    x_offset: u32,
    y_offset: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (group.y * groups.x + group.x) * 256u * STEPS + lane;
    for (var step = 0u; step < STEPS; step++) {
        let i = first + step * 256u;
        if i >= params.count {
            break;
        }
        y[params.y_offset + i] = x[params.x_offset + i];
    }
}
