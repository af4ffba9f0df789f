// y[o] = max over the window of o: x at o * stride - padding + k, 0 <= k < kernel, inside x. Any window.
//
// Index map: one invocation = one output; a workgroup takes 256 consecutive ones of a sample, (x, y) of the grid count
// workgroups, z is the sample. Backward compares x with y, so nothing else is saved.
// A NaN in the window wins, as in PyTorch: a maximum that drops it would hide the fault. Exact, deterministic.

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

// By its bits, as WGSL lets a compiler assume that no NaN occurs.
fn is_nan(v: f32) -> bool {
    return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u;
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
    var best = x[base + (low.x * in_size.y + low.y) * in_size.z + low.z];
    for (var kz = low.x; kz < high.x; kz++) {
        for (var ky = low.y; ky < high.y; ky++) {
            let line = base + (kz * in_size.y + ky) * in_size.z;
            for (var kx = low.z; kx < high.z; kx++) {
                let v = x[line + kx];
                if v > best || is_nan(v) {
                    best = v;
                }
            }
        }
    }
    y[params.out_offset + n * params.out_batch + i] = best;
}
