// y[c] = gamma[c] * (x[c] - mean) * rstd + beta[c], mean and rstd of each voxel.
//
// Index map: one workgroup = LANES * STEPS consecutive packs of one channel, lane l taking l, l + LANES, ...; x of the grid
// counts blocks, y channels, z samples. IN_PLACE takes x from y, and another buffer stands at the binding of x.
// Saves nothing: backward starts from x. x - mean first, so that a large mean costs no digits.
// Accuracy: a few roundings. Deterministic: each output has one writer.

alias Pack = f32;
const IN_PLACE: u32 = 0;
const LANES: u32 = 256;
const STEPS: u32 = 8;

struct Params {
    x_offset: u32,
    x_batch: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    gamma_offset: u32,
    beta_offset: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Pack>;
@group(0) @binding(2) var<storage, read> mean: array<Pack>;
@group(0) @binding(3) var<storage, read> rstd: array<Pack>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read> beta: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<Pack>;

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
    let g = Pack(gamma[params.gamma_offset + c]);
    let b = Pack(beta[params.beta_offset + c]);
    let from_x = params.x_offset + n * params.x_batch + c * params.packs;
    let from_mean = params.mean_offset + n * params.mean_batch;
    let from_rstd = params.rstd_offset + n * params.rstd_batch;
    let to_y = params.y_offset + n * params.y_batch + c * params.packs;
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        var value: Pack;
        if IN_PLACE == 1 {
            value = y[to_y + i];
        } else {
            value = x[from_x + i];
        }
        y[to_y + i] = g * ((value - mean[from_mean + i]) * rstd[from_rstd + i]) + b;
    }
}
