// dx[i] = sum over the windows o that contain i of dy[o] / count(o): the gradient of avg_forward, any window.
//
// Index map: one invocation = one input voxel, which gathers, so each dx has one writer and needs no atomics; a workgroup
// takes 256 consecutive ones of a sample, (x, y) of the grid count workgroups, z is the sample. dx is written `=`.
// Accuracy: a sequential sum in scan order of the windows. Deterministic.

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
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

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
    let row = i / in_size.z;
    let plane = row / in_size.y;
    let channel = plane / in_size.x;
    let at = vec3<u32>(plane % in_size.x, row % in_size.y, i % in_size.z);
    let stride = vec3<u32>(params.stride_d, params.stride_h, params.stride_w);
    let kernel = vec3<u32>(params.kernel_d, params.kernel_h, params.kernel_w);
    let padding = vec3<u32>(params.padding_d, params.padding_h, params.padding_w);
    // The windows that contain this voxel: o * stride <= at + padding < o * stride + kernel.
    let reach = at + padding;
    let first = select((reach - kernel) / stride + 1u, vec3<u32>(0u), reach < kernel);
    let last = min(reach / stride + 1u, out_size);
    let base = params.out_offset + n * params.out_batch + channel * out_size.x * out_size.y * out_size.z;
    var sum = 0.0;
    for (var oz = first.x; oz < last.x; oz++) {
        for (var oy = first.y; oy < last.y; oy++) {
            let line = base + (oz * out_size.y + oy) * out_size.z;
            for (var ox = first.z; ox < last.z; ox++) {
                let start = vec3<u32>(oz, oy, ox) * stride;
                let inside = min(start + kernel, in_size + padding) - max(start, padding);
                let extent = select(inside, kernel, COUNT_PADDING == 1u);
                sum += dy[line + ox] / f32(extent.x * extent.y * extent.z);
            }
        }
    }
    dx[params.in_offset + n * params.in_batch + i] = sum;
}
