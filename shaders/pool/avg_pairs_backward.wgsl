// dx[i] = dy[o] / (DEPTH * 4) for the one window o that contains i: the gradient of avg_pairs_forward.
//
// Index map: one invocation = 4 outputs along x, written to 2 vectors of DEPTH * 2 rows; offsets and extents count vectors of 4.
// A workgroup takes 256 consecutive groups of outputs of a sample, (x, y) of the grid count workgroups, z is the sample.
// For windows without remainder and widths that are multiples of 8 only; others take the kernel for any window.
// dx is written `=`. Exact but for a power of two, deterministic.

const DEPTH: u32 = 2u;
const_assert DEPTH == 1u || DEPTH == 2u;

struct Params {
    in_offset: u32,
    in_batch: u32,
    out_offset: u32,
    out_batch: u32,
    per_sample: u32,
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if i >= params.per_sample {
        return;
    }
    let n = group.z;
    let column = i % params.columns;
    let row = i / params.columns;
    let plane = row / params.rows;
    let share = dy[params.out_offset + n * params.out_batch + i] / f32(DEPTH * 4u);
    for (var kz = 0u; kz < DEPTH; kz++) {
        for (var ky = 0u; ky < 2u; ky++) {
            let near = params.in_offset + n * params.in_batch
                + (((plane * DEPTH + kz) * params.rows + row % params.rows) * 2u + ky) * params.columns * 2u + column * 2u;
            dx[near] = share.xxyy;
            dx[near + 1u] = share.zzww;
        }
    }
}
