// dx[i] = sum of dy[o] over the padded voxels o that forward took from i, by FILL: 1 mirrored, 2 nearest voxel.
//
// Mirrored: along each axis i itself and its images in front and behind where it has them, so at most 3 x 3 x 3. Nearest: the
// first voxel also owns the border in front, the last the one behind, so a run of voxels along each axis.
// Index map: one invocation = one voxel of x; a workgroup takes 256 consecutive ones of a sample, (x, y) of the grid count
// workgroups, z is the sample.
// Each gathers, so each dx has one writer and needs no atomics. dx is written `=`.
// Accuracy: a sequential sum in scan order of o. Deterministic.

const FILL: u32 = 1u;
const MIRROR: u32 = 1u;
const_assert FILL == 1u || FILL == 2u;

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
    in_d: u32,
    in_h: u32,
    in_w: u32,
    out_d: u32,
    out_h: u32,
    out_w: u32,
    before_d: u32,
    before_h: u32,
    before_w: u32,
    value: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

// Along one axis, where the padded voxels that came from voxel `at` begin, and how many candidates there are.
fn candidates(at: u32, before: u32, size: u32, padded: u32) -> vec2<u32> {
    if FILL == MIRROR {
        return vec2<u32>(0u, 3u);
    }
    let first = select(at + before, 0u, at == 0u);
    let end = select(at + before + 1u, padded, at + 1u == size);
    return vec2<u32>(first, end - first);
}

// The k-th candidate; `padded` or more where it does not exist. Voxels at the mirror have no image in it.
fn candidate(k: u32, first: u32, at: u32, before: u32, size: u32, padded: u32) -> u32 {
    if FILL != MIRROR {
        return first + k;
    }
    if k == 0u {
        return select(padded, before - at, at > 0u && at <= before);
    }
    if k == 1u {
        return at + before;
    }
    return select(padded, 2u * (size - 1u) + before - at, at + 1u < size);
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
    let out_size = vec3<u32>(params.out_d, params.out_h, params.out_w);
    let in_size = vec3<u32>(params.in_d, params.in_h, params.in_w);
    let row = i / in_size.z;
    let plane = row / in_size.y;
    let channel = plane / in_size.x;
    let at = vec3<u32>(plane % in_size.x, row % in_size.y, i % in_size.z);
    let before = vec3<u32>(params.before_d, params.before_h, params.before_w);
    let along_z = candidates(at.x, before.x, in_size.x, out_size.x);
    let along_y = candidates(at.y, before.y, in_size.y, out_size.y);
    let along_x = candidates(at.z, before.z, in_size.z, out_size.z);
    let base = params.y_offset + n * params.y_batch + channel * out_size.x * out_size.y * out_size.z;
    var sum = 0.0;
    for (var kz = 0u; kz < along_z.y; kz++) {
        let oz = candidate(kz, along_z.x, at.x, before.x, in_size.x, out_size.x);
        if oz >= out_size.x {
            continue;
        }
        for (var ky = 0u; ky < along_y.y; ky++) {
            let oy = candidate(ky, along_y.x, at.y, before.y, in_size.y, out_size.y);
            if oy >= out_size.y {
                continue;
            }
            let line = base + (oz * out_size.y + oy) * out_size.z;
            for (var kx = 0u; kx < along_x.y; kx++) {
                let ox = candidate(kx, along_x.x, at.z, before.z, in_size.z, out_size.z);
                if ox < out_size.z {
                    sum += dy[line + ox];
                }
            }
        }
    }
    dx[params.x_offset + n * params.x_batch + i] = sum;
}
