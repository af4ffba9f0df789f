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
