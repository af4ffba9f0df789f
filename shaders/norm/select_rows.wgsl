// y[n, c] = table[index[n], c]: the scale or the shift of each sample of a conditional normalisation.
//
// Index map: one invocation = one y[n, c]; a workgroup takes 64 consecutive ones, (x, y) of the grid count workgroups. The index is
// a whole number in f32; one that is no row of the table gives `missing` (NaN), so that it cannot pass for another row.
// Saves nothing: backward reads the indices again. Written `=`. Exact. Deterministic.

struct Params {
    samples: u32,
    channels: u32,
    rows: u32,
    table_offset: u32,
    table_batch: u32,
    index_offset: u32,
    index_batch: u32,
    y_offset: u32,
    y_batch: u32,
    missing: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<f32>;
@group(0) @binding(2) var<storage, read> index: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= params.samples * params.channels {
        return;
    }
    let n = i / params.channels;
    let c = i % params.channels;
    let wanted = index[params.index_offset + n * params.index_batch];
    var value = params.missing;
    if wanted >= 0.0 && wanted < f32(params.rows) && floor(wanted) == wanted {
        value = table[params.table_offset + u32(wanted) * params.table_batch + c];
    }
    y[params.y_offset + n * params.y_batch + c] = value;
}
