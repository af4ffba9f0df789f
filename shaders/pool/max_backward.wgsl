// dx[i] = sum of dy[o] over the windows o that contain i and whose first largest value, in scan order, is x[i]. Any window.
//
// Index map: one invocation = one input voxel, which gathers, so each dx has one writer and needs no atomics; a workgroup
// takes 256 consecutive ones of a sample, (x, y) of the grid count workgroups, z is the sample. dx is written `=`.
// Forward saves no indices: x[i] == y[o] finds the voxels that are largest, and only those look whether an equal one
// comes before them. Searching each window again without y would read kernel^3 voxels for each of kernel^3 / stride^3 windows.
// A NaN equals nothing, so a window whose maximum is NaN passes no gradient on.
// Accuracy: a rounding for each further window whose largest value it is; exact where windows do not overlap.
// Deterministic: windows in order.

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
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
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

// Whether no voxel of the window `low` .. `high` before `at` holds `value`.
fn is_first(base: u32, low: vec3<u32>, high: vec3<u32>, at: vec3<u32>, value: f32) -> bool {
    let end = (at.x * params.in_h + at.y) * params.in_w + at.z;
    for (var kz = low.x; kz < high.x; kz++) {
        for (var ky = low.y; ky < high.y; ky++) {
            let line = (kz * params.in_h + ky) * params.in_w;
            for (var kx = low.z; kx < high.z; kx++) {
                if line + kx >= end {
                    return true;
                }
                if x[base + line + kx] == value {
                    return false;
                }
            }
        }
    }
    return true;
}

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
    let volume = in_size.x * in_size.y * in_size.z;
    let base = params.x_offset + n * params.x_batch + channel * volume;
    let windows = channel * out_size.x * out_size.y * out_size.z;
    let value = x[params.x_offset + n * params.x_batch + i];
    var sum = 0.0;
    for (var oz = first.x; oz < last.x; oz++) {
        for (var oy = first.y; oy < last.y; oy++) {
            let line = windows + (oz * out_size.y + oy) * out_size.z;
            for (var ox = first.z; ox < last.z; ox++) {
                if value != y[params.y_offset + n * params.y_batch + line + ox] {
                    continue;
                }
                let start = vec3<u32>(oz, oy, ox) * stride;
                let low = max(start, padding) - padding;
                let high = min(start + kernel, in_size + padding) - padding;
                if is_first(base, low, high, at, value) {
                    sum += dy[params.dy_offset + n * params.dy_batch + line + ox];
                }
            }
        }
    }
    dx[params.dx_offset + n * params.dx_batch + i] = sum;
}
