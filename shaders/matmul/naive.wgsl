// y[row, column] = sum over k of a[row, k] * b[k, column] (+ bias[column]), for each matrix of a batch.
//
// Any strides, so a transposed matrix is read where it lies. Without BIAS the third buffer is bound but not read.
// Index map: one invocation = one output; a workgroup = TILE x TILE outputs, z of the grid is the batch.
// Saves nothing. Written `=`. Accuracy: a sequential sum over k. Deterministic.
// The twin of tiled, and faster on CPU adapters, where workgroup memory costs as much as storage.

const TILE: u32 = 16u;
const BIAS: u32 = 0u;
const_assert BIAS <= 1u;

struct Params {
    a_offset: u32,
    a_batch: u32,
    a_row: u32,
    a_column: u32,
    b_offset: u32,
    b_batch: u32,
    b_row: u32,
    b_column: u32,
    bias_offset: u32,
    y_offset: u32,
    y_batch: u32,
    y_row: u32,
    y_column: u32,
    rows: u32,
    columns: u32,
    terms: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(TILE, TILE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let row = group.y * TILE + lane.y;
    let column = group.x * TILE + lane.x;
    if row >= params.rows || column >= params.columns {
        return;
    }
    let left = params.a_offset + group.z * params.a_batch + row * params.a_row;
    let right = params.b_offset + group.z * params.b_batch + column * params.b_column;
    var sum = 0.0;
    for (var k = 0u; k < params.terms; k++) {
        sum += a[left + k * params.a_column] * b[right + k * params.b_row];
    }
    if BIAS == 1u {
        sum += bias[params.bias_offset + column];
    }
    let at = params.y_offset + group.z * params.y_batch + row * params.y_row + column * params.y_column;
    y[at] = sum;
}
