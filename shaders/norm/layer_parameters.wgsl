// sum(dy * xhat) and sum(dy) over the voxels of each channel of each sample, xhat = (x - mean) * rstd, as partial results: the
// gradients of gamma and beta.
//
// Index map: one workgroup = LANES * STEPS consecutive packs of one channel, lane l taking l, l + LANES, ...; x of the
// grid counts blocks, y channels, z samples. Each invocation adds up to STEPS packs, each component a stream of its own, and
// stores at (c * N + n) * slots + its number. reduce/merge_sums adds them in a fixed tree.
//
// Itself part of a backward pass, it saves nothing. Accuracy: sums of up to STEPS products in sequence; the error then
// grows with the depth of the tree, not with the voxels. Deterministic: one writer a partial, in a fixed order.

alias Pack = f32;
const LANES: u32 = 256;
const STEPS: u32 = 16;

struct Params {
    x_offset: u32,
    x_batch: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    packs: u32,
    slots: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Pack>;
@group(0) @binding(2) var<storage, read> mean: array<Pack>;
@group(0) @binding(3) var<storage, read> rstd: array<Pack>;
@group(0) @binding(4) var<storage, read> dy: array<Pack>;
@group(0) @binding(5) var<storage, read_write> gamma_sums: array<Pack>;
@group(0) @binding(6) var<storage, read_write> beta_sums: array<Pack>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let slot = group.x * LANES + lane;
    if slot >= params.slots {
        return;
    }
    let n = group.z;
    let c = group.y;
    let from_x = params.x_offset + n * params.x_batch + c * params.packs;
    let from_mean = params.mean_offset + n * params.mean_batch;
    let from_rstd = params.rstd_offset + n * params.rstd_batch;
    let from_dy = params.dy_offset + n * params.dy_batch + c * params.packs;
    let first = group.x * LANES * STEPS + lane;
    var of_gamma = Pack(0.0);
    var of_beta = Pack(0.0);
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        let upstream = dy[from_dy + i];
        of_gamma += upstream * ((x[from_x + i] - mean[from_mean + i]) * rstd[from_rstd + i]);
        of_beta += upstream;
    }
    let at = (c * groups.z + n) * params.slots + slot;
    gamma_sums[at] = of_gamma;
    beta_sums[at] = of_beta;
}
