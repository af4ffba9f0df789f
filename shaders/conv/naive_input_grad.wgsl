// dx[n, c, q] = bias[c] + sum over o, k with q + padding - k * dilation = p * stride of w[o, c', k] dy[n, o, p]
// where o runs over the group of c and c' counts inside the group: the gradient of a convolution with respect to its
// input (no bias), and transposed convolution (x_* then name its output, y_* its input).
//
// Index map: one invocation = one element of dx; 256 consecutive elements of one sample a workgroup, (x, y) of the grid
// count the blocks, z is the sample. Saves nothing. Written `=`.
// Accuracy: one sequential f32 sum of at most group_out * taps products. Deterministic: each element has one writer.
// The division in the inner loop is why strided convolutions have faster kernels; this twin stays plain.

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
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

// The output that sees input position `at` (which counts the padding) through a tap `reach` voxels from the corner of
// its window; huge where there is none.
fn output(at: u32, reach: u32, stride: u32) -> u32 {
    if at < reach || (at - reach) % stride != 0u {
        return 0xffffffffu;
    }
    return (at - reach) / stride;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    let voxels = params.x_d * params.x_h * params.x_w;
    if i >= params.groups * params.group_in * voxels {
        return;
    }
    let c = i / voxels;
    let voxel = i % voxels;
    let z = voxel / (params.x_h * params.x_w) + params.padding_d;
    let y = voxel / params.x_w % params.x_h + params.padding_h;
    let x = voxel % params.x_w + params.padding_w;
    let taps = params.kernel_d * params.kernel_h * params.kernel_w;
    let first = c / params.group_in * params.group_out;
    var sum = 0.0;
    for (var o = first; o < first + params.group_out; o++) {
        var weight = params.w_offset + o * params.w_batch + c % params.group_in * taps;
        for (var kz = 0u; kz < params.kernel_d; kz++) {
            let oz = output(z, kz * params.dilation_d, params.stride_d);
            for (var ky = 0u; ky < params.kernel_h; ky++) {
                let oy = output(y, ky * params.dilation_h, params.stride_h);
                for (var kx = 0u; kx < params.kernel_w; kx++) {
                    let ox = output(x, kx * params.dilation_w, params.stride_w);
                    if oz < params.y_d && oy < params.y_h && ox < params.y_w {
                        sum += w[weight] * dy[
                            params.y_offset + group.z * params.y_batch
                                + ((o * params.y_d + oz) * params.y_h + oy) * params.y_w + ox
                        ];
                    }
                    weight++;
                }
            }
        }
    }
    if params.has_bias != 0u {
        sum += bias[params.bias_offset + c];
    }
    dx[params.x_offset + group.z * params.x_batch + i] = sum;
}
