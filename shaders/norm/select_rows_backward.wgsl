// dtable[s, c] = sum of dy[n, c] over the samples n with index[n] = s: 0 in rows that no sample chose.
//
// Index map: one invocation = one dtable[s, c]; a workgroup takes 64 consecutive ones, (x, y) of the grid count workgroups.
// Written `=`. Accuracy: N - 1 roundings. Deterministic: samples in order.

struct Params {
    samples: u32,
    channels: u32,
    rows: u32,
    index_offset: u32,
    index_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dtable_offset: u32,
    dtable_batch: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> index: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dtable: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= params.rows * params.channels {
        return;
    }
    let row = i / params.channels;
    let c = i % params.channels;
    var sum = 0.0;
    for (var n = 0u; n < params.samples; n++) {
        if index[params.index_offset + n * params.index_batch] == f32(row) {
            sum += dy[params.dy_offset + n * params.dy_batch + c];
        }
    }
    dtable[params.dtable_offset + row * params.dtable_batch + c] = sum;
}
