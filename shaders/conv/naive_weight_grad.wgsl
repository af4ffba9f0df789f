// dw[o, c, k] = sum over n, p of dy[n, o, p] x[n, g * group_in + c, p * stride + k * dilation - padding], g = o / group_out
//
// Index map: one workgroup = one weight, (x, y) of the grid count them. Its 64 invocations take every 64th voxel of dy,
// then a tree in workgroup memory adds their sums. Saves nothing. Written `=`.
// Accuracy: 64 sequential f32 sums of batch * voxels / 64 products and a tree of depth 6. Deterministic: the order is fixed.

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
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dw: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.y * groups.x + group.x;
    let taps = params.kernel_d * params.kernel_h * params.kernel_w;
    let total = params.groups * params.group_out * params.group_in * taps;
    // Workgroups beyond the end compute the last weight again and do not store it: a barrier allows no early return.
    let index = min(i, total - 1u);
    let o = index / (params.group_in * taps);
    let c = o / params.group_out * params.group_in + index / taps % params.group_in;
    let z0 = index / (params.kernel_h * params.kernel_w) % params.kernel_d * params.dilation_d - params.padding_d;
    let y0 = index / params.kernel_w % params.kernel_h * params.dilation_h - params.padding_h;
    let x0 = index % params.kernel_w * params.dilation_w - params.padding_w;
    let voxels = params.y_d * params.y_h * params.y_w;
    var sum = 0.0;
    for (var n = 0u; n < params.batch; n++) {
        let x_first = params.x_offset + n * params.x_batch + c * params.x_d * params.x_h * params.x_w;
        let y_first = params.y_offset + n * params.y_batch + o * voxels;
        for (var voxel = lane; voxel < voxels; voxel += 64u) {
            let iz = z0 + voxel / (params.y_h * params.y_w) * params.stride_d;
            let iy = y0 + voxel / params.y_w % params.y_h * params.stride_h;
            let ix = x0 + voxel % params.y_w * params.stride_w;
            if iz < params.x_d && iy < params.x_h && ix < params.x_w {
                sum += dy[y_first + voxel] * x[x_first + (iz * params.x_h + iy) * params.x_w + ix];
            }
        }
    }
    sums[lane] = sum;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
        }
    }
    if lane == 0u && i < total {
        dw[params.w_offset + o * params.w_batch + i % (params.group_in * taps)] = sums[0];
    }
}
