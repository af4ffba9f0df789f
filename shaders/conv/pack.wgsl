// The weights in the order in which lanes.wgsl loads them: [class][block][step][word][lane] of eight, where output
// channel = (block * BLOCKS + b) * 8 + lane, step = (channels of the input, CHANNELS at a time; planes of the window), and the
// eight weights of a word follow each other in (channel of the step, row, column, b, parity class of the column where there
// is a pair of them). Zeros where there is no weight.
//
// Tap j along an axis is tap first + class * class_step + step * j of w: forward j itself (0, 0, 1); for the input
// gradient of parity class r with stride s it is padding + r + s * pad - s * j (see lanes.rs), where also the roles of the
// weight's first two axes are exchanged (the channel strides say so).
//
// Index map: one workgroup = one step of channels (x) of one block (y), one invocation = one lane; it walks over
// planes, taps and b by carrying, since a division costs a CPU adapter more than a load. Exact.

struct Params {
    w_offset: u32,
    out_stride: u32,
    in_stride: u32,
    channels_out: u32,
    channels_in: u32,
    blocks: u32,
    blocks_out: u32,
    pair: u32,
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

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let step = group.x;
    let block = group.y;
    let places = params.blocks * params.pair;
    let count = params.channels * params.taps_h * params.taps_w * places;
    let words = (count + 7u) / 8u;
    let first = block % params.blocks_out * params.blocks * LANES + lane;
    let parity_index = block / params.blocks_out;
    let parity = vec3(
        parity_index / (params.classes_h * params.classes_w),
        parity_index / params.classes_w % params.classes_h,
        parity_index % params.classes_w,
    );
    var at = (block * params.channel_steps + step) * params.planes * words * LANES + lane;
    for (var plane = 0u; plane < params.planes; plane++) {
        var c = step * params.channels;
        var tap = vec2(0u);
        var b = vec2(0u);
        var i = 0u;
        for (var quad = 0u; quad < 2u * words; quad++) {
            var value = vec4(0.0);
            // unroll
            for (var k: u32 = 0u; k < 4u; k++) {
                let found = weight(first + b.x * LANES, c, vec3(plane, tap), parity + vec3(0u, 0u, b.y));
                value[k] = select(0.0, found, i < count);
                i++;
                b.y++;
                let next_block = b.y == params.pair;
                b = select(b, vec2(b.x + 1u, 0u), next_block);
                let next_tap = b.x == params.blocks;
                b = select(b, vec2(0u), next_tap);
                tap.y += select(0u, 1u, next_tap);
                let next_row = tap.y == params.taps_w;
                tap = select(tap, vec2(tap.x + 1u, 0u), next_row);
                let next_channel = tap.x == params.taps_h;
                tap = select(tap, vec2(0u), next_channel);
                c += select(0u, 1u, next_channel);
            }
            packed_weights[2u * (at + quad / 2u * LANES) + quad % 2u] = value;
        }
        at += words * LANES;
    }
}
