// dx[n][k] = dloss / N (p[n][k] - q[k]): the gradient of `class_entropy`, p = exp(x - m) / Z,
// q = (1 - smoothing) one-hot(t) + smoothing / K. Nothing where the label is no class.
//
// Index map: one invocation = one logit; (x, y) of the grid count blocks of 256 of all samples. Reads what forward saved:
// m, 1 / Z and 1 - p[t], which is summed there from the other classes: p[t] - 1 would lose what is left of a gradient near
// the end of training. Written `=`. Accuracy: that of exp. Deterministic.

struct Params {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    saved_offset: u32,
    saved_batch: u32,
    dloss_offset: u32,
    dx_offset: u32,
    dx_batch: u32,
    samples: u32,
    classes: u32,
    smoothing: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> truth: array<f32>;
@group(0) @binding(3) var<storage, read> saved: array<f32>;
@group(0) @binding(4) var<storage, read> dloss: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;

const NO_CLASS: u32 = 0xffffffffu;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if i >= params.samples * params.classes {
        return;
    }
    let n = i / params.classes;
    let k = i % params.classes;
    let value = truth[params.truth_offset + n * params.truth_batch];
    let label = select(NO_CLASS, u32(value + 0.5), value > -0.5);
    let at = params.saved_offset + n * params.saved_batch;
    let p = exp(x[params.x_offset + n * params.x_batch + k] - saved[at]) * saved[at + 1u];
    let even = params.smoothing / f32(params.classes);
    let difference = select(p - even, params.smoothing - even - saved[at + 2u], k == label);
    let gradient = dloss[params.dloss_offset] * difference / f32(params.samples);
    dx[params.dx_offset + n * params.dx_batch + k] = select(0.0, gradient, label < params.classes);
}
