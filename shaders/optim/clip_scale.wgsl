// norm = sqrt(sum of partials); scale = min(1, max_norm / (norm + 1e-6)), or 0 where the norm is not finite.
//
// Index map: one workgroup; a lane adds every 256th partial sum, then the lanes are added in a tree. Accuracy:
// parts / 256 + 8 roundings. Deterministic. The test for infinity and NaN looks at the bits, since a compiler may assume
// that there are none.

struct Params {
    parts: u32,
    max_norm: f32,
    norm_offset: u32,
    scale_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> norm: array<f32>;
@group(0) @binding(3) var<storage, read_write> scale: array<f32>;

const EXPONENT: u32 = 0x7f800000u;

var<workgroup> tree: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var part = lane; part < params.parts; part += 256u) {
        sum += partials[part];
    }
    tree[lane] = sum;
    workgroupBarrier();
    for (var step = 128u; step > 0u; step >>= 1u) {
        if lane < step {
            tree[lane] += tree[lane + step];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let length = sqrt(tree[0]);
        let is_finite = (bitcast<u32>(tree[0]) & EXPONENT) != EXPONENT;
        norm[params.norm_offset] = length;
        scale[params.scale_offset] = select(0.0, min(1.0, params.max_norm / (length + 1e-6)), is_finite);
    }
}
