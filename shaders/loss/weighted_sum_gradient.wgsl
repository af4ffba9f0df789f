// da_i = w_i dy of y = sum over i of w_i a_i, for a handful of values.
//
// Index map: one invocation writes all terms. Accuracy: one rounding. Deterministic. Written `=`.

struct Params {
    w_offset: u32,
    dy_offset: u32,
    da_offset: u32,
    terms: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> da: array<f32>;

@compute @workgroup_size(1)
fn main() {
    for (var i = 0u; i < params.terms; i++) {
        da[params.da_offset + i] = w[params.w_offset + i] * dy[params.dy_offset];
    }
}
