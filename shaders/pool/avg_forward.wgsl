// y[o] = sum over the window of o / count: x at o * stride - padding + k, 0 <= k < kernel, inside x. Any window.
//
// COUNT_PADDING 1: count is the whole window, the zeros of the padding included; 0: only voxels of x count.
// Index map: one invocation = one output; a workgroup takes 256 consecutive ones of a sample, (x, y) of the grid count
// workgroups, z is the sample. Saves nothing. Accuracy: a sequential sum in scan order and one division. Deterministic.

const COUNT_PADDING: u32 = 1u;

struct Params {
    in_offset: u32,
    in_batch: u32,
    out_offset: u32,
    out_batch: u32,
    per_sample: u32,
    in_d: u32,
    in_h: u32,
    in_w: u32,
    out_d: u32,
    out_h: u32,
    out_w: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_d: u32,
    stride_h: u32,
    stride_w: u32,
    padding_d: u32,
    padding_h: u32,
    padding_w: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if i >= params.per_sample {
        return;
    }
    let n = group.z;
    let out_size = vec3<u32>(params.out_d, params.out_h, params.out_w);
    let in_size = vec3<u32>(params.in_d, params.in_h, params.in_w);
    let row = i / out_size.z;
    let plane = row / out_size.y;
    let channel = plane / out_size.x;
    let at = vec3<u32>(plane % out_size.x, row % out_size.y, i % out_size.z);
    let stride = vec3<u32>(params.stride_d, params.stride_h, params.stride_w);
    let kernel = vec3<u32>(params.kernel_d, params.kernel_h, params.kernel_w);
    let padding = vec3<u32>(params.padding_d, params.padding_h, params.padding_w);
    let low = max(at * stride, padding) - padding;
    let high = min(at * stride + kernel, in_size + padding) - padding;
    let base = params.in_offset + n * params.in_batch + channel * in_size.x * in_size.y * in_size.z;
    var sum = 0.0;
    for (var kz = low.x; kz < high.x; kz++) {
        for (var ky = low.y; ky < high.y; ky++) {
            let line = base + (kz * in_size.y + ky) * in_size.z;
            for (var kx = low.z; kx < high.z; kx++) {
                sum += x[line + kx];
            }
        }
    }
    let extent = select(high - low, kernel, COUNT_PADDING == 1u);
    y[params.out_offset + n * params.out_batch + i] = sum / f32(extent.x * extent.y * extent.z);
}
