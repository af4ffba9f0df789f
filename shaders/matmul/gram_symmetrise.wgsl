// both[n, i, j] = scale * (dgram[n, i, j] + dgram[n, j, i]): the factor of the features in the gradient of a Gram matrix, where each
// feature stands in a row and in a column.
//
// Index map: one invocation = one both[n, i, j]; a workgroup takes 64 consecutive ones, (x, y) of the grid count workgroups.
// Written `=`. Accuracy: two roundings. Deterministic.

struct Params {
    samples: u32,
    channels: u32,
    dgram_offset: u32,
    dgram_batch: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dgram: array<f32>;
@group(0) @binding(2) var<storage, read_write> both: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.y * groups.x + group.x) * 64u + lane;
    let area = params.channels * params.channels;
    if at >= params.samples * area {
        return;
    }
    let n = at / area;
    let i = at % area / params.channels;
    let j = at % params.channels;
    let from_n = params.dgram_offset + n * params.dgram_batch;
    both[at] = params.scale * (dgram[from_n + i * params.channels + j] + dgram[from_n + j * params.channels + i]);
}
