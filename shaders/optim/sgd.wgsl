// Stochastic gradient descent with momentum, in place: g' = scale g + weight_decay w; m = momentum m + g';
// w -= lr m, or with Nesterov w -= lr (g' + momentum m).
//
// scale 0 says that the gradients are not finite: nothing is touched then. Index map: (x, y) of the grid count blocks of
// 256 elements. Accuracy: a few roundings. Deterministic: one writer an element.

const NESTEROV: u32 = 1u;

struct Params {
    w_offset: u32,
    m_offset: u32,
    g_offset: u32,
    g_batch: u32,
    per_sample: u32,
    hyper_offset: u32,
    scale_offset: u32,
    elements: u32,
    momentum: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> hyper: array<f32>;
@group(0) @binding(3) var<storage, read> scale: array<f32>;
@group(0) @binding(4) var<storage, read_write> w: array<f32>;
@group(0) @binding(5) var<storage, read_write> m: array<f32>;

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
    let raw = g[params.g_offset + n * params.g_batch + (i - n * params.per_sample)];
    let weight = w[params.w_offset + i];
    let slope = clip * raw + params.weight_decay * weight;
    let velocity = params.momentum * m[params.m_offset + i] + slope;
    m[params.m_offset + i] = velocity;
    let step = select(velocity, slope + params.momentum * velocity, NESTEROV == 1u);
    w[params.w_offset + i] = weight - hyper[params.hyper_offset] * step;
}
