// dx[i] = dy[o] where x[i] is the first largest value, in scan order, of its window o; else 0: DEPTH x 2 x 2 windows.
//
// Index map: one invocation = 4 outputs along x, compared with 2 vectors of DEPTH * 2 rows; offsets and extents count vectors of 4.
// A workgroup takes 256 consecutive groups of outputs of a sample, (x, y) of the grid count workgroups, z is the sample.
// For windows without remainder and widths that are multiples of 8 only; others take the kernel for any window.
// As in max_backward, x == y finds the largest value; here the invocation owns the whole window and so knows whether it
// was met before. dx is written `=`. Accuracy: exact. Deterministic: one writer an element.

const DEPTH: u32 = 2u;
const_assert DEPTH == 1u || DEPTH == 2u;

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    per_sample: u32,
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;

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
    let best = y[params.y_offset + n * params.y_batch + i];
    let upstream = dy[params.dy_offset + n * params.dy_batch + i];
    let zero = vec4<f32>(0.0);
    var open = vec4<bool>(true);
    for (var kz = 0u; kz < DEPTH; kz++) {
        for (var ky = 0u; ky < 2u; ky++) {
            let near = (((plane * DEPTH + kz) * params.rows + row % params.rows) * 2u + ky) * params.columns * 2u + column * 2u;
            let a = x[params.x_offset + n * params.x_batch + near];
            let b = x[params.x_offset + n * params.x_batch + near + 1u];
            let is_left = open & (vec4<f32>(a.xz, b.xz) == best);
            open = open & !is_left;
            let is_right = open & (vec4<f32>(a.yw, b.yw) == best);
            open = open & !is_right;
            let left = select(zero, upstream, is_left);
            let right = select(zero, upstream, is_right);
            let there = params.dx_offset + n * params.dx_batch + near;
            dx[there] = vec4<f32>(left.x, right.x, left.y, right.y);
            dx[there + 1u] = vec4<f32>(left.z, right.z, left.w, right.w);
        }
    }
}
