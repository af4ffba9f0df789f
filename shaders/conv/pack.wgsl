// The weights in the order in which lanes.wgsl loads them: [class][block][step][quad][b][lane] of vec4, where output
// channel = (block * BLOCKS + b) * 8 + lane, step = (channels of the input, CHANNELS at a time; planes of the window), and the
// four taps of a quad follow each other in (channel of the step, row, column). Zeros where there is no weight.
//
// Tap j along an axis is tap first + class * class_step + step * j of w: forward j itself (0, 0, 1); for the input
// gradient of parity class r with stride s it is padding + r + s * pad - s * j (see lanes.rs), where also the roles of the
// weight's first two axes are exchanged (the channel strides say so).
//
// Index map: one workgroup = one step of channels (x) of one block (y), one invocation = one output channel; it walks over
// planes and taps by carrying, since a division costs a CPU adapter more than a load. Exact.

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

const LANES: u32 = 8u;

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
    let is_there = o < params.channels_out && c < params.channels_in && all(k < kernel);
    let at = o * params.out_stride + c * params.in_stride + (k.x * kernel.y + k.y) * kernel.z + k.z;
    return select(0.0, w[params.w_offset + select(0u, at, is_there)], is_there);
}

@compute @workgroup_size(16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let b = index / LANES;
    if b >= params.blocks {
        return;
    }
    let step = group.x;
    let block = group.y;
    let taps = params.channels * params.taps_h * params.taps_w;
    let quads = (taps + 3u) / 4u;
    let stride = params.blocks * LANES;
    let o = block % params.blocks_out * stride + index;
    let parity_index = block / params.blocks_out;
    let parity = vec3(
        parity_index / (params.classes_h * params.classes_w),
        parity_index / params.classes_w % params.classes_h,
        parity_index % params.classes_w,
    );
    var at = (block * params.channel_steps + step) * params.planes * quads * stride + index;
    for (var plane = 0u; plane < params.planes; plane++) {
        var c = step * params.channels;
        var tap = 0u;
        var place = vec2(0u);
        for (var quad = 0u; quad < quads; quad++) {
            var value = vec4(0.0);
            // unroll
            for (var k: u32 = 0u; k < 4u; k++) {
                let found = weight(o, c, vec3(plane, place), parity);
                value[k] = select(0.0, found, tap < taps);
                tap++;
                place.y++;
                let next_row = place.y == params.taps_w;
                place = select(place, vec2(place.x + 1u, 0u), next_row);
                let next_channel = place.x == params.taps_h;
                place = select(place, vec2(0u), next_channel);
                c += select(0u, 1u, next_channel);
            }
            packed_weights[at] = value;
            at += stride;
        }
    }
}
