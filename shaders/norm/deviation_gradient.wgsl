// dx = (dmean + ddeviation (x - mean) / deviation) / V: the gradient with respect to the V voxels of a channel of their mean and of
// deviation = sqrt(variance + eps).
//
// Index map as in norm/apply. Each share is 1 / V, or 0 where nothing depends on that statistic, and another buffer then stands at
// the binding of its gradient. Written `=`.
// Saves nothing. Accuracy: a few roundings. Deterministic: each output has one writer.

alias Pack = f32;
const LANES: u32 = 256;
const STEPS: u32 = 8;

struct Params {
    x_offset: u32,
    x_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    packs: u32,
    mean_offset: u32,
    mean_batch: u32,
    deviation_offset: u32,
    deviation_batch: u32,
    dmean_offset: u32,
    dmean_batch: u32,
    dmean_share: f32,
    ddeviation_offset: u32,
    ddeviation_batch: u32,
    ddeviation_share: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Pack>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> deviation: array<f32>;
@group(0) @binding(4) var<storage, read> dmean: array<f32>;
@group(0) @binding(5) var<storage, read> ddeviation: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<Pack>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = group.x * LANES * STEPS + lane;
    if first >= params.packs {
        return;
    }
    let n = group.z;
    let c = group.y;
    let m = Pack(mean[params.mean_offset + n * params.mean_batch + c]);
    let a = Pack(params.dmean_share * dmean[params.dmean_offset + n * params.dmean_batch + c]);
    let b = params.ddeviation_share * ddeviation[params.ddeviation_offset + n * params.ddeviation_batch + c]
        / deviation[params.deviation_offset + n * params.deviation_batch + c];
    let from_x = params.x_offset + n * params.x_batch + c * params.packs;
    let to_dx = params.dx_offset + n * params.dx_batch + c * params.packs;
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        dx[to_dx + i] = a + b * (x[from_x + i] - m);
    }
}
