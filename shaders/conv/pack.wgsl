// The weights in the order in which lanes.wgsl loads them: [class][block][step][quad][b][lane] of vec4, where output
// channel = (block * BLOCKS + b) * 8 + lane, step = (channels of the input, CHANNELS at a time; outer planes), and the
// four taps of a quad follow each other in (channel of the step, plane, row, column). Zeros where there is no weight.
//
// Tap j along an axis is tap first + class * class_step + step * j of w: forward j itself (0, 0, 1); for the input
// gradient of parity class r with stride s it is padding + r + s * pad - s * j (see lanes.rs), where also the roles of the
// weight's first two axes are exchanged (the channel strides say so).
//
// Index map: one invocation = one vec4; 64 consecutive ones a workgroup, (x, y) of the grid count the blocks. Exact.

struct Params {
    w_offset: u32,
    out_stride: u32,
    in_stride: u32,
    channels_out: u32,
    channels_in: u32,
    total: u32,
    blocks: u32,
    blocks_out: u32,
    channels: u32,
    channel_steps: u32,
    outer: u32,
    taps_d: u32,
    taps_h: u32,
    taps_w: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    classes_h: u32,
    classes_w: u32,
    first_d: i32,
    first_h: i32,
    first_w: i32,
    step_d: i32,
    step_h: i32,
    step_w: i32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> packed_weights: array<vec4<f32>>;

fn weight(o: u32, c: u32, tap: vec3<u32>, parity: vec3<u32>) -> f32 {
    let first = vec3(params.first_d, params.first_h, params.first_w);
    let k = vec3<u32>(
        first + vec3<i32>(parity) + vec3(params.step_d, params.step_h, params.step_w) * vec3<i32>(tap),
    );
    let kernel = vec3(params.kernel_d, params.kernel_h, params.kernel_w);
    // A negative tap is a huge one here.
    if o >= params.channels_out || c >= params.channels_in || any(k >= kernel) {
        return 0.0;
    }
    return w[
        params.w_offset + o * params.out_stride + c * params.in_stride + (k.x * kernel.y + k.y) * kernel.z + k.z
    ];
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= params.total {
        return;
    }
    let plane_taps = params.taps_h * params.taps_w;
    let taps = params.channels * params.taps_d * plane_taps;
    let quads = (taps + 3u) / 4u;
    let b = i / 8u % params.blocks;
    let quad = i / (8u * params.blocks) % quads;
    let step = i / (8u * params.blocks * quads);
    let block = step / (params.outer * params.channel_steps);
    let o = (block % params.blocks_out * params.blocks + b) * 8u + i % 8u;
    let parity_index = block / params.blocks_out;
    let parity = vec3(
        parity_index / (params.classes_h * params.classes_w),
        parity_index / params.classes_w % params.classes_h,
        parity_index % params.classes_w,
    );
    var value = vec4(0.0);
    for (var k = 0u; k < 4u; k++) {
        let tap = quad * 4u + k;
        if tap < taps {
            let c = step / params.outer % params.channel_steps * params.channels + tap / (params.taps_d * plane_taps);
            let place = vec3(
                step % params.outer + tap / plane_taps % params.taps_d,
                tap / params.taps_w % params.taps_h,
                tap % params.taps_w,
            );
            value[k] = weight(o, c, place, parity);
        }
    }
    packed_weights[i] = value;
}
