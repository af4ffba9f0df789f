// db[column] = sum over the rows of dy[row, column]: the gradient of a bias.
//
// Index map: one invocation = one column; a workgroup takes 64 consecutive ones, (x, y) of the grid count workgroups.
// Saves nothing. db is written `=`. Accuracy: a sequential sum over the rows: few, the samples of a batch or what long sums leave
// after a first pass over them side by side. Deterministic.

struct Params {
    dy_offset: u32,
    dy_batch: u32,
    db_offset: u32,
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> db: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let column = (group.y * groups.x + group.x) * 64u + lane;
    if column >= params.columns {
        return;
    }
    var sum = 0.0;
    for (var row = 0u; row < params.rows; row++) {
        sum += dy[params.dy_offset + row * params.dy_batch + column];
    }
    db[params.db_offset + column] = sum;
}
