// dw[o, c, k] = sum over s of partial[s, o, c, k]: the second stage of weight_grad_lanes.wgsl
//
// Index map: one invocation = the window of one pair of channels; 64 consecutive ones a workgroup, (x, y) of the grid count
// the blocks. It walks over the taps without a division, which would cost a CPU adapter more than the loads. The layout of
// `partial` is written there. Written `=`. Accuracy: one sequential f32 sum over the parts. Deterministic.

struct Params {
    w_offset: u32,
    w_batch: u32,
    channels_in: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    pairs: u32,
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
    if i >= params.pairs {
        return;
    }
    let c = i % params.channels_in;
    let o = i / params.channels_in;

    let block_out = o / (LANES * params.block_vectors);
    let vector = o / LANES % params.block_vectors;
    let block_in = c / params.block_channels;
    let block_len = params.block_channels * params.kernel_h * params.block_vectors * params.kernel_w * LANES;
    let part_len = params.kernel_d * params.blocks_out * params.blocks_in * block_len;
    let first_row = (c - block_in * params.block_channels) * params.kernel_h;
    var at = params.w_offset + o * params.w_batch
        + c * params.kernel_d * params.kernel_h * params.kernel_w;
    for (var kz = 0u; kz < params.kernel_d; kz++) {
        let block = (kz * params.blocks_out + block_out) * params.blocks_in + block_in;
        for (var ky = 0u; ky < params.kernel_h; ky++) {
            let row = (first_row + ky) * params.block_vectors + vector;
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
