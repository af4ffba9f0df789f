// y = act(x), element by element.
//
// Index map: one workgroup = LANES * STEPS consecutive packs of one channel, lane l taking l, l + LANES, ...; x of the
// grid counts blocks, y channels, z samples. KIND is the function; the slope is the block's, or for PReLU slopes[c] (without
// PReLU x stands at that binding and is not read). Saves nothing: backward starts from x.
// Accuracy: a few roundings, the sigmoid that of exp. Deterministic: each output has one writer.

alias Pack = f32;
const KIND: u32 = 1;
const LANES: u32 = 256;
const STEPS: u32 = 8;
const RELU: u32 = 1;
const LEAKY_RELU: u32 = 2;
const RELU6: u32 = 3;
const HARD_SWISH: u32 = 4;
const PRELU: u32 = 5;
const HARD_SIGMOID: u32 = 6;
const SIGMOID: u32 = 7;
const GELU: u32 = 8;
const GELU_TANH: u32 = 9;
const ELU: u32 = 10;

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
    slope_offset: u32,
    slope: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Pack>;
@group(0) @binding(2) var<storage, read> slopes: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<Pack>;

fn ramp(z: Pack) -> Pack {
    let r = z * Pack(1.0 / 6.0) + Pack(0.5);
    return select(select(r, Pack(0.0), z <= Pack(-3.0)), Pack(1.0), z >= Pack(3.0));
}

// exp of a negative number only: no overflow.
fn sigmoid(z: Pack) -> Pack {
    let e = exp(-abs(z));
    return select(e, Pack(1.0), z >= Pack(0.0)) / (Pack(1.0) + e);
}

// The normal distribution's Phi(z): half of erfc(w), w = |z| / sqrt(2), is its tail, as t exp(P(t) - w^2) / 2 with
// t = 1 / (1 + w / 2). P was fitted at Chebyshev nodes for w up to 9.5: 4.5e-8 relative before rounding.
fn normal(z: Pack) -> Pack {
    let t = Pack(1.0) / (Pack(1.0) + Pack(0.35355339) * abs(z));
    var p = Pack(0.140507134) * t - Pack(0.656615831);
    p = p * t + Pack(1.09943846);
    p = p * t - Pack(0.619523331);
    p = p * t - Pack(0.144173504);
    p = p * t + Pack(0.0354678633);
    p = p * t + Pack(0.022874143);
    p = p * t + Pack(0.389117147);
    p = p * t + Pack(0.998341449);
    p = p * t - Pack(1.26543349);
    let tail = Pack(0.5) * t * exp(p - Pack(0.5) * z * z);
    return select(Pack(1.0) - tail, tail, z < Pack(0.0));
}

// exp(z) - 1 for z <= 0, by its series where the difference would cancel: nine terms, 4e-9 relative at -1/2.
fn elu(z: Pack) -> Pack {
    let w = -abs(z);
    var p = Pack(1.0 / 362880.0) * w + Pack(1.0 / 40320.0);
    p = p * w + Pack(1.0 / 5040.0);
    p = p * w + Pack(1.0 / 720.0);
    p = p * w + Pack(1.0 / 120.0);
    p = p * w + Pack(1.0 / 24.0);
    p = p * w + Pack(1.0 / 6.0);
    p = p * w + Pack(0.5);
    p = p * w + Pack(1.0);
    let below = select(p * w, exp(w) - Pack(1.0), w < Pack(-0.5));
    return select(z, below, z <= Pack(0.0));
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
        case GELU: { return z * normal(z); }
        case GELU_TANH: { return z * sigmoid(Pack(1.5957691) * (z + Pack(0.044715) * z * z * z)); }
        case ELU: { return elu(z); }
        default: { return z; }
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = group.z;
    let c = group.y;
    let first = group.x * LANES * STEPS + lane;
    let from_x = params.x_offset + n * params.x_batch + c * params.packs;
    let to_y = params.y_offset + n * params.y_batch + c * params.packs;
    var slope = Pack(params.slope);
    if KIND == PRELU {
        slope = Pack(slopes[params.slope_offset + c]);
    }
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        y[to_y + i] = activate(x[from_x + i], slope);
    }
}
