// The weights in the order in which patches.wgsl loads them: [block][step][b][lane] of eight f32, where b = (vector of output
// channels, target tap) and step = (channels of the source, plane of the window); the eight follow each other in (channel of the
// step, source row, source column). Zeros where there is no channel.
//
// Index map: one invocation = one word of eight; 64 consecutive ones a workgroup, (x, y) of the grid count the blocks. Exact.

struct Params {
    w_offset: u32,
    out_stride: u32,
    in_stride: u32,
    channels_in: u32,
    channels_out: u32,
    blocks_out: u32,
    steps: u32,
    planes: u32,
    words: u32,
}

const SOURCE: u32 = 1u;
const TARGET: u32 = 2u;
const CHANNEL_BLOCKS: u32 = 1u;

const LANES: u32 = 8u;
const TAPS: u32 = 8u;
const CHANNELS: u32 = TAPS / (SOURCE * SOURCE);
const PARITIES: u32 = TARGET * TARGET;
const BLOCKS: u32 = CHANNEL_BLOCKS * PARITIES;
// Taps of the window along H and W.
const KERNEL: u32 = SOURCE * TARGET;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> packed_weights: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + index;
    if i >= params.words {
        return;
    }
    let b = i / LANES % BLOCKS;
    let rest = i / (LANES * BLOCKS);
    let block = rest / params.steps;
    let step = rest - block * params.steps;
    let step_c = step / params.planes;
    let first_plane = block / params.blocks_out;
    let o = (block - first_plane * params.blocks_out) * CHANNEL_BLOCKS * LANES + b / PARITIES * LANES + i % LANES;
    let plane = first_plane + step - step_c * params.planes;
    let target_tap = (plane * KERNEL + b / TARGET % TARGET) * KERNEL + b % TARGET;
    var values: array<f32, TAPS>;
    // unroll
    for (var tap: u32 = 0u; tap < TAPS; tap++) {
        let c = step_c * CHANNELS + tap / (SOURCE * SOURCE);
        let source_tap = tap / SOURCE % SOURCE * KERNEL + tap % SOURCE;
        let is_there = o < params.channels_out && c < params.channels_in;
        let at = o * params.out_stride + c * params.in_stride + target_tap + source_tap;
        values[tap] = select(0.0, w[params.w_offset + select(0u, at, is_there)], is_there);
    }
    packed_weights[2u * i] = vec4(values[0], values[1], values[2], values[3]);
    packed_weights[2u * i + 1u] = vec4(values[4], values[5], values[6], values[7]);
}
