// norm/backward_dx with (leaky, parametric) ReLU or without activation, for a CPU adapter with u64, which moves eight f32 as
// four u64 (src/ops/words.rs has the figures):
//   dx = rstd * (gamma dz - a - xhat b), dz = dy where z > 0, slope dy elsewhere, z = gamma xhat + beta, xhat = (x - mean) * rstd.
//
// Index map: one workgroup = LANES * STEPS consecutive words of one channel, lane l taking l, l + LANES, ...; x of the grid
// counts blocks, y channels, z samples; the numbers of row n * C + c are two vec4 of `coefficients` (norm/backward_coefficients).
// IN_PLACE takes dy from dx, and x then stands at the binding of dy. Written `=`. Deterministic: each output has one writer.

const IN_PLACE: u32 = 0;
const LANES: u32 = 256;
const STEPS: u32 = 8;

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
@group(0) @binding(1) var<storage, read> x: array<vec4<u64>>;
@group(0) @binding(2) var<storage, read> dy: array<vec4<u64>>;
@group(0) @binding(3) var<storage, read> coefficients: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<u64>>;

fn even(word: vec4<u64>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word));
}

fn odd(word: vec4<u64>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word >> vec4<u32>(32u)));
}

fn join(low: vec4<f32>, high: vec4<f32>) -> vec4<u64> {
    return vec4<u64>(bitcast<vec4<u32>>(low)) | (vec4<u64>(bitcast<vec4<u32>>(high)) << vec4<u32>(32u));
}

struct Row {
    mean: f32,
    scale: f32,
    beta: f32,
    slope: f32,
    // What is taken away from scale * dz: `constant`, and `linear` times x - mean.
    constant: f32,
    linear: f32,
}

fn gradient(row: Row, value: vec4<f32>, upstream: vec4<f32>) -> vec4<f32> {
    let d = value - row.mean;
    let z = fma(vec4(row.scale), d, vec4(row.beta));
    let dz = select(upstream, row.slope * upstream, z <= vec4(0.0));
    return fma(vec4(row.scale), dz, fma(vec4(-row.linear), d, vec4(-row.constant)));
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
    let c = group.y;
    let n = group.z;
    let affine = coefficients[2u * (n * params.channels + c)];
    let rest = coefficients[2u * (n * params.channels + c) + 1u];
    let row = Row(affine.x, affine.y * affine.z, affine.w, rest.x, affine.y * rest.y, affine.y * affine.y * rest.z);
    let from_x = params.x_offset + n * params.x_batch + c * params.packs;
    let from_dy = params.dy_offset + n * params.dy_batch + c * params.packs;
    let to_dx = params.dx_offset + n * params.dx_batch + c * params.packs;
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        let values = x[from_x + i];
        var upstream: vec4<u64>;
        if IN_PLACE == 1 {
            upstream = dx[to_dx + i];
        } else {
            upstream = dy[from_dy + i];
        }
        dx[to_dx + i] = join(
            gradient(row, even(values), even(upstream)),
            gradient(row, odd(values), odd(upstream)),
        );
    }
}
