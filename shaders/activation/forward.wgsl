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
