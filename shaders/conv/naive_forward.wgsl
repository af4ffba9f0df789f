// y[n, o, p] = bias[o] + sum over c, k of w[o, c, k] x[n, g * group_in + c, p * stride + k * dilation - padding]
// with g = o / group_out; zeros outside x. Cross-correlation, as every framework has it.
//
// Index map: one invocation = one output; 256 consecutive elements of one sample of y a workgroup, (x, y) of the grid
// count the blocks, z is the sample. Saves nothing: backward reads x and w themselves.
// Accuracy: one sequential f32 sum of group_in * taps products. Deterministic: each output has one writer.
// This is the twin that the fast kernels are compared with, so it stays plain; 0.75 GFLOP/s on a 2-core CPU adapter.

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    w_offset: u32,
    w_batch: u32,
    bias_offset: u32,
    has_bias: u32,
    batch: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    y_d: u32,
    y_h: u32,
    y_w: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_d: u32,
    stride_h: u32,
    stride_w: u32,
    padding_d: u32,
    padding_h: u32,
    padding_w: u32,
    dilation_d: u32,
    dilation_h: u32,
    dilation_w: u32,
    groups: u32,
    group_in: u32,
    group_out: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    let voxels = params.y_d * params.y_h * params.y_w;
    if i >= params.groups * params.group_out * voxels {
        return;
    }
    let o = i / voxels;
    let voxel = i % voxels;
    // The corner of the window; beyond the near border it wraps round to a huge number, which fails the same
    // comparison as one beyond the far border.
    let z0 = voxel / (params.y_h * params.y_w) * params.stride_d - params.padding_d;
    let y0 = voxel / params.y_w % params.y_h * params.stride_h - params.padding_h;
    let x0 = voxel % params.y_w * params.stride_w - params.padding_w;
    let first = params.x_offset + group.z * params.x_batch
        + o / params.group_out * params.group_in * params.x_d * params.x_h * params.x_w;
    var weight = params.w_offset + o * params.w_batch;
    var sum = 0.0;
    for (var c = 0u; c < params.group_in; c++) {
        for (var kz = 0u; kz < params.kernel_d; kz++) {
            let iz = z0 + kz * params.dilation_d;
            for (var ky = 0u; ky < params.kernel_h; ky++) {
                let iy = y0 + ky * params.dilation_h;
                for (var kx = 0u; kx < params.kernel_w; kx++) {
                    let ix = x0 + kx * params.dilation_w;
                    if iz < params.x_d && iy < params.x_h && ix < params.x_w {
                        sum += w[weight] * x[first + ((c * params.x_d + iz) * params.x_h + iy) * params.x_w + ix];
                    }
                    weight++;
                }
            }
        }
    }
    if params.has_bias != 0u {
        sum += bias[params.bias_offset + o];
    }
    y[params.y_offset + group.z * params.y_batch + i] = sum;
}
