// dx = rstd * (gamma dz - a - xhat b), dz = dy * act'(z), z = gamma xhat + beta, xhat = (x - mean) * rstd: the whole gradient
// with respect to x, the paths through mean and rstd included (a and b are their share, see norm/backward_coefficients).
//
// Index map as in norm/apply; the numbers of row n * C + c are two vec4 of `coefficients`. IN_PLACE takes dy from dx, and x
// then stands at the binding of dy. Written `=`.
// Accuracy: about ten roundings, of the size of the largest of the three terms, which may cancel. Deterministic: each
// output has one writer.

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
const GELU: u32 = 8;
const GELU_TANH: u32 = 9;
const ELU: u32 = 10;

struct Params {
    x_offset: u32,
    x_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    packs: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Pack>;
@group(0) @binding(2) var<storage, read> dy: array<Pack>;
@group(0) @binding(3) var<storage, read> coefficients: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<Pack>;

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

// d activate / dz; at a corner the side that PyTorch takes.
fn activate_gradient(z: Pack, slope: Pack) -> Pack {
    let zero = Pack(0.0);
    let one = Pack(1.0);
    switch KIND {
        case RELU: { return select(one, zero, z <= zero); }
        case LEAKY_RELU, PRELU: { return select(one, slope, z <= zero); }
        case RELU6: { return select(select(one, zero, z <= zero), zero, z >= Pack(6.0)); }
        case HARD_SWISH: {
            let inner = z * Pack(1.0 / 3.0) + Pack(0.5);
            return select(select(inner, zero, z <= Pack(-3.0)), one, z >= Pack(3.0));
        }
        case HARD_SIGMOID: {
            return select(select(Pack(1.0 / 6.0), zero, z <= Pack(-3.0)), zero, z >= Pack(3.0));
        }
        case SIGMOID: { return sigmoid(z) * sigmoid(-z); }
        case GELU: { return normal(z) + Pack(0.39894228) * z * exp(Pack(-0.5) * z * z); }
        case GELU_TANH: {
            let inner = Pack(1.5957691) * (z + Pack(0.044715) * z * z * z);
            let steep = Pack(1.5957691) * (one + Pack(0.134145) * z * z);
            return sigmoid(inner) * (one + z * steep * sigmoid(-inner));
        }
        case ELU: { return select(one, exp(-abs(z)), z <= zero); }
        default: { return one; }
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
    let row = n * params.channels + c;
    let affine = coefficients[2u * row];
    let rest = coefficients[2u * row + 1u];
    let from_x = params.x_offset + n * params.x_batch + c * params.packs;
    let from_dy = params.dy_offset + n * params.dy_batch + c * params.packs;
    let to_dx = params.dx_offset + n * params.dx_batch + c * params.packs;
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        let xhat = (x[from_x + i] - Pack(affine.x)) * affine.y;
        let z = affine.z * xhat + Pack(affine.w);
        var upstream: Pack;
        if IN_PLACE == 1 {
            upstream = dx[to_dx + i];
        } else {
            upstream = dy[from_dy + i];
        }
        let dz = upstream * activate_gradient(z, Pack(rest.x));
        dx[to_dx + i] = affine.y * (affine.z * dz - Pack(rest.y) - xhat * rest.z);
    }
}
