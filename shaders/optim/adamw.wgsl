// AdamW (Loshchilov and Hutter 2019), in place, with g' = scale g:
// w *= 1 - lr weight_decay; m = beta1 m + (1 - beta1) g'; v = beta2 v + (1 - beta2) g'^2;
// w -= lr / c1 m / (sqrt(v / c2) + epsilon), c1 = 1 - beta1^t, c2 = 1 - beta2^t; hyper = [lr, c1, c2].
//
// scale 0 says that the gradients are not finite: nothing is touched then. Index map: (x, y) of the grid count blocks of
// 256 elements. Accuracy: a few roundings. Deterministic: one writer an element.

struct Params {
    w_offset: u32,
    m_offset: u32,
    v_offset: u32,
    g_offset: u32,
    g_batch: u32,
    per_sample: u32,
    hyper_offset: u32,
    scale_offset: u32,
    elements: u32,
    beta1: f32,
    beta2: f32,
    // 1 - beta of f64: the difference of two near f32 would lose half of its digits.
    rest1: f32,
    rest2: f32,
    epsilon: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> hyper: array<f32>;
@group(0) @binding(3) var<storage, read> scale: array<f32>;
@group(0) @binding(4) var<storage, read_write> w: array<f32>;
@group(0) @binding(5) var<storage, read_write> m: array<f32>;
@group(0) @binding(6) var<storage, read_write> v: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * grid.x + group.x) * 256u + lane;
    let clip = scale[params.scale_offset];
    if i >= params.elements || clip == 0.0 {
        return;
    }
    let n = i / params.per_sample;
    let slope = clip * g[params.g_offset + n * params.g_batch + (i - n * params.per_sample)];
    let mean = params.beta1 * m[params.m_offset + i] + params.rest1 * slope;
    let square = params.beta2 * v[params.v_offset + i] + params.rest2 * slope * slope;
    m[params.m_offset + i] = mean;
    v[params.v_offset + i] = square;
    let lr = hyper[params.hyper_offset];
    let step = mean / hyper[params.hyper_offset + 1u]
        / (sqrt(square / hyper[params.hyper_offset + 2u]) + params.epsilon);
    let weight = w[params.w_offset + i];
    w[params.w_offset + i] = weight - lr * (params.weight_decay * weight + step);
}
