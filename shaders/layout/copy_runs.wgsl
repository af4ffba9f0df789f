// y = x for runs of elements at a distance: run r begins at x_offset + r * x_stride and goes to y_offset + r * y_stride.
//
// Takes planes of some channels out of a tensor that is too large to be bound, and puts them back. Index map: one workgroup
// = 1024 consecutive packs of one run, lane l taking l, l + 256, ...; (x, y) of the grid count blocks, z is the run. Exact.

alias Pack = f32;

struct Params {
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    packs: u32,
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
    let first = (group.y * groups.x + group.x) * 1024u + lane;
    let source_run = params.x_offset + group.z * params.x_stride;
    let target_run = params.y_offset + group.z * params.y_stride;
    for (var s = 0u; s < 4u; s++) {
        let i = first + s * 256u;
        if i < params.packs {
            y[target_run + i] = x[source_run + i];
        }
    }
}
