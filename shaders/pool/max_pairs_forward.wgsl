// y[o] = max over DEPTH x 2 x 2 voxels of x from o * (DEPTH, 2, 2) on.
//
// Index map: one invocation = 4 outputs along x, from 2 vectors of DEPTH * 2 rows; offsets and extents count vectors of 4.
// A workgroup takes 256 consecutive groups of outputs of a sample, (x, y) of the grid count workgroups, z is the sample.
// For windows without remainder and widths that are multiples of 8 only; others take the kernel for any window.
// A NaN wins, as in max_forward. Exact, deterministic.

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
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

// By its bits, as WGSL lets a compiler assume that no NaN occurs.
fn is_nan(v: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

fn larger(best: vec4<f32>, v: vec4<f32>) -> vec4<f32> {
    return select(best, v, (v > best) | is_nan(v));
}

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
    var best: vec4<f32>;
    for (var kz = 0u; kz < DEPTH; kz++) {
        for (var ky = 0u; ky < 2u; ky++) {
            let near = params.in_offset + n * params.in_batch
                + (((plane * DEPTH + kz) * params.rows + row % params.rows) * 2u + ky) * params.columns * 2u + column * 2u;
            let a = x[near];
            let b = x[near + 1u];
            let left = vec4<f32>(a.xz, b.xz);
            if kz + ky == 0u {
                best = left;
            } else {
                best = larger(best, left);
            }
            best = larger(best, vec4<f32>(a.yw, b.yw));
        }
    }
    y[params.out_offset + n * params.out_batch + i] = best;
}
