// dw[o, c, k] = sum over s of partial[s, o, c, k]: the second stage of weight_grad_lanes.wgsl
//
// Index map: one invocation = the windows of one output channel and a block of input channels; 64 consecutive ones, along the output
// channels, a workgroup, (x, y) of the grid count the workgroups. It walks over channels and taps without a division, which
// would cost a CPU adapter more than the loads: 1x1x1 384->1536 at 197 voxels it takes as long as the products before it, one
// invocation a pair of channels half as long again. The layout of `partial` is written there. Written `=`. Accuracy: one sequential f32 sum over the parts. Deterministic.

struct Params {
    w_offset: u32,
    w_batch: u32,
    channels_in: u32,
    channels_out: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    parts: u32,
    blocks_out: u32,
    blocks_in: u32,
    block_vectors: u32,
    block_channels: u32,
}

const LANES: u32 = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> dw: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let block_in = i / params.channels_out;
    if block_in >= params.blocks_in {
        return;
    }
    let o = i - block_in * params.channels_out;
    let block_out = o / (LANES * params.block_vectors);
    let vector = o / LANES % params.block_vectors;
    let block_len = params.block_channels * params.kernel_h * params.block_vectors * params.kernel_w * LANES;
    let part_len = params.kernel_d * params.blocks_out * params.blocks_in * block_len;
    let first_c = block_in * params.block_channels;
    let channels = min(params.block_channels, params.channels_in - first_c);
    var at = params.w_offset + o * params.w_batch + first_c * params.kernel_d * params.kernel_h * params.kernel_w;
    for (var c = 0u; c < channels; c++) {
        for (var kz = 0u; kz < params.kernel_d; kz++) {
            let block = (kz * params.blocks_out + block_out) * params.blocks_in + block_in;
            for (var ky = 0u; ky < params.kernel_h; ky++) {
                let row = (c * params.kernel_h + ky) * params.block_vectors + vector;
                for (var kx = 0u; kx < params.kernel_w; kx++) {
                    let first = block * block_len + (row * params.kernel_w + kx) * LANES + o % LANES;
                    var sum = 0.0;
                    for (var part = 0u; part < params.parts; part++) {
                        sum += partial[first + part * part_len];
                    }
                    dw[at] = sum;
                    at++;
                }
            }
        }
    }
}
