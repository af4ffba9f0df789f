// The weights in the order in which lanes.wgsl loads them: [class][block][step][quad][b][lane] of vec4, where output
// channel = (block * BLOCKS + b) * 8 + lane, step = (channels of the input, CHANNELS at a time; planes of the window), and the
// four taps of a quad follow each other in (channel of the step, row, column). Zeros where there is no weight.
//
// Tap j along an axis is tap first + class * class_step + step * j of w: forward j itself (0, 0, 1); for the input
// gradient of parity class r with stride s it is padding + r + s * pad - s * j (see lanes.rs), where also the roles of the
// weight's first two axes are exchanged (the channel strides say so).
//
// Index map: one workgroup = one step (x) of one block (y), one invocation = every 64th vec4 of it. Exact.

struct Params {
    w_offset: u32,
    out_stride: u32,
    in_stride: u32,
    channels_out: u32,
    channels_in: u32,
    blocks: u32,
    blocks_out: u32,
    channels: u32,
    channel_steps: u32,
    planes: u32,
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
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let step = group.x;
    let block = group.y;
    let plane_taps = params.taps_h * params.taps_w;
    let taps = params.channels * plane_taps;
    let count = (taps + 3u) / 4u * params.blocks * 8u;
    let parity_index = block / params.blocks_out;
    let parity = vec3(
        parity_index / (params.classes_h * params.classes_w),
        parity_index / params.classes_w % params.classes_h,
        parity_index % params.classes_w,
    );
    let first = (block * params.channel_steps * params.planes + step) * count;
    for (var i = lane; i < count; i += 64u) {
        let b = i / 8u % params.blocks;
        let o = (block % params.blocks_out * params.blocks + b) * 8u + i % 8u;
        var tap = i / 8u / params.blocks * 4u;
        var c = step / params.planes * params.channels + tap / plane_taps;
        var place = vec3(step % params.planes, tap % plane_taps / params.taps_w, tap % params.taps_w);
        var value = vec4(0.0);
        for (var k = 0u; k < 4u && tap < taps; k++) {
            value[k] = weight(o, c, place, parity);
            // The next tap by carrying: divisions cost more than all the rest here.
            tap++;
            place.z++;
            if place.z == params.taps_w {
                place.z = 0u;
                place.y++;
            }
            if place.y == params.taps_h {
                place.y = 0u;
                c++;
            }
        }
        packed_weights[first + i] = value;
    }
}
