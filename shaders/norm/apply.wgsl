// y = act(gamma * (x - mean) * rstd + beta).
//
// Index map: one workgroup = LANES * STEPS consecutive packs of one channel, lane l taking l, l + LANES, ...; x of the
// grid counts blocks, y channels, z samples. The statistics of (n, c) lie at n * batch + c / per_stat (per_stat channels
// share one; a batch stride of 0 shares them over the samples, as it does scale and shift). KIND is the activation; the slope is the block's, or for
// PReLU slopes[c] (without PReLU another buffer stands at that binding and is not read). IN_PLACE takes x from y, and another
// buffer stands at the binding of x.
// Saves nothing: backward computes z again from x. x - mean first, so that a large mean costs no digits.
// Accuracy: a few roundings. Deterministic: each output has one writer.

alias Pack = f32;
const KIND: u32 = 0;
const IN_PLACE: u32 = 0;
const LANES: u32 = 256;
const STEPS: u32 = 8;
const RELU: u32 = 1;
const LEAKY_RELU: u32 = 2;
const RELU6: u32 = 3;
const HARD_SWISH: u32 = 4;
const PRELU: u32 = 5;
const HARD_SIGMOID: u32 = 6;
const SIGMOID: u32 = 7;

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
    per_stat: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    gamma_offset: u32,
    gamma_batch: u32,
    beta_offset: u32,
    beta_batch: u32,
    slope_offset: u32,
    slope: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Pack>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> rstd: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read> beta: array<f32>;
@group(0) @binding(6) var<storage, read> slopes: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<Pack>;

fn ramp(z: Pack) -> Pack {
    let r = z * Pack(1.0 / 6.0) + Pack(0.5);
    return select(select(r, Pack(0.0), z <= Pack(-3.0)), Pack(1.0), z >= Pack(3.0));
}

// exp of a negative number only: no overflow.
fn sigmoid(z: Pack) -> Pack {
    let e = exp(-abs(z));
    return select(e, Pack(1.0), z >= Pack(0.0)) / (Pack(1.0) + e);
}

// select() and not max() or clamp(): a NaN must come out as a NaN.
fn activate(z: Pack, slope: Pack) -> Pack {
    let zero = Pack(0.0);
    switch KIND {
        case RELU: { return select(z, zero, z <= zero); }
        case LEAKY_RELU, PRELU: { return select(z, slope * z, z <= zero); }
        case RELU6: { return select(select(z, zero, z <= zero), Pack(6.0), z >= Pack(6.0)); }
        case HARD_SWISH: { return z * ramp(z); }
        case HARD_SIGMOID: { return ramp(z); }
        case SIGMOID: { return sigmoid(z); }
        default: { return z; }
    }
}

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
    let stat = c / params.per_stat;
    let m = Pack(mean[params.mean_offset + n * params.mean_batch + stat]);
    let r = Pack(rstd[params.rstd_offset + n * params.rstd_batch + stat]);
    let g = Pack(gamma[params.gamma_offset + n * params.gamma_batch + c]);
    let b = Pack(beta[params.beta_offset + n * params.beta_batch + c]);
    var slope = Pack(params.slope);
    if KIND == PRELU {
        slope = Pack(slopes[params.slope_offset + c]);
    }
    let from_x = params.x_offset + n * params.x_batch + c * params.packs;
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
        let z = g * ((value - m) * r) + b;
        y[to_y + i] = activate(z, slope);
    }
}
