// y[o, p] = bias[o] + sum over t of w[o, w_first + t * w_step] x[o / multiplier, p * stride + t * dilation + first]
//
// Convolution where each group is one input channel, forward; with the taps backwards also its input gradient for
// stride 1. Bound by loads, so each invocation computes STRIP outputs along x from one row of x in registers.
// Index map: one invocation = one strip; 64 consecutive strips (along x, then y, z, channels) a workgroup, (x, y) of the
// grid count the workgroups of a sample, z is the sample. Saves nothing. Written `=`.
// Accuracy: one sequential f32 sum of taps products. Deterministic.

struct Params {
    x_offset: u32,
    x_batch: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    y_offset: u32,
    y_batch: u32,
    y_d: u32,
    y_h: u32,
    y_w: u32,
    w_offset: u32,
    w_batch: u32,
    w_first: u32,
    w_step: i32,
    bias_offset: u32,
    has_bias: u32,
    channels: u32,
    multiplier: u32,
    strips: u32,
    kernel_d: u32,
    kernel_h: u32,
    stride_d: u32,
    stride_h: u32,
    dilation_d: u32,
    dilation_h: u32,
    first_d: i32,
    first_h: i32,
    first_w: i32,
}

const KW: u32 = 3u;
const SW: u32 = 1u;
const STRIP: u32 = 8u;
const ROW: u32 = (STRIP - 1u) * SW + KW;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let ox = i % params.strips * STRIP;
    let oy = i / params.strips % params.y_h;
    let oz = i / (params.strips * params.y_h) % params.y_d;
    let o = i / (params.strips * params.y_h * params.y_d);
    if o >= params.channels {
        return;
    }
    let n = group.z;
    let plane = params.x_h * params.x_w;
    let x_first = params.x_offset + n * params.x_batch + o / params.multiplier * params.x_d * plane;
    // Before the near border these wrap round to huge numbers, which fail the comparison like those beyond the far one.
    let ix = ox * SW + u32(params.first_w);

    var sums: array<f32, STRIP>;
    for (var kz = 0u; kz < params.kernel_d; kz++) {
        let iz = oz * params.stride_d + kz * params.dilation_d + u32(params.first_d);
        for (var ky = 0u; ky < params.kernel_h; ky++) {
            let iy = oy * params.stride_h + ky * params.dilation_h + u32(params.first_h);
            if iz >= params.x_d || iy >= params.x_h {
                continue;
            }
            let at = x_first + iz * plane + iy * params.x_w + ix;
            var row: array<f32, ROW>;
            // unroll
            for (var v: u32 = 0u; v < ROW; v++) {
                if ix + v < params.x_w {
                    row[v] = x[at + v];
                }
            }
            let tap = i32((kz * params.kernel_h + ky) * KW);
            // unroll
            for (var kx: u32 = 0u; kx < KW; kx++) {
                let weight = w[params.w_offset + o * params.w_batch
                    + params.w_first + u32((tap + i32(kx)) * params.w_step)];
                // unroll
                for (var v: u32 = 0u; v < STRIP; v++) {
                    sums[v] += weight * row[v * SW + kx];
                }
            }
        }
    }
    var b = 0.0;
    if params.has_bias != 0u {
        b = bias[params.bias_offset + o];
    }
    let y_at = params.y_offset + n * params.y_batch + ((o * params.y_d + oz) * params.y_h + oy) * params.y_w + ox;
    // unroll
    for (var v: u32 = 0u; v < STRIP; v++) {
        if ox + v < params.y_w {
            y[y_at + v] = sums[v] + b;
        }
    }
}
