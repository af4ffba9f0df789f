// y = sum over i of w_i a_i, for a handful of values.
//
// Index map: one invocation adds all terms in order. Accuracy: one rounding a term. Deterministic.

struct Params {
    a_offset: u32,
    w_offset: u32,
    y_offset: u32,
    terms: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(1)
fn main() {
    var sum = 0.0;
    for (var i = 0u; i < params.terms; i++) {
        sum += w[params.w_offset + i] * a[params.a_offset + i];
    }
    y[params.y_offset] = sum;
}
