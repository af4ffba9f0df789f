// y[row, column] = sum over k of a[row, k] * b[k, column] (+ bias[column]), for each matrix of a batch.
//
// Any strides, so a transposed matrix is read where it lies. Without BIAS the third buffer is bound but not read.
// Index map: one invocation = EDGE x EDGE neighbouring outputs, so that a loaded element serves EDGE products; a workgroup =
// TILE x TILE invocations, z of the grid is the batch. Rows and columns beyond the edges repeat the last one and store nothing.
// Saves nothing. Written `=`. Accuracy: a sequential sum over k. Deterministic.
// The twin of tiled, and faster on CPU adapters, where workgroup memory costs as much as storage.

const TILE: u32 = 16u;
const BIAS: u32 = 0u;
const EDGE: u32 = 1u;
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
    let row = (group.y * TILE + lane.y) * EDGE;
    let column = (group.x * TILE + lane.x) * EDGE;
    if row >= params.rows || column >= params.columns {
        return;
    }
    var left: array<u32, EDGE>;
    var right: array<u32, EDGE>;
    var sums: array<f32, EDGE * EDGE>;
    // unroll
    for (var e: u32 = 0u; e < EDGE; e++) {
        left[e] = params.a_offset + group.z * params.a_batch + min(row + e, params.rows - 1u) * params.a_row;
        right[e] = params.b_offset + group.z * params.b_batch + min(column + e, params.columns - 1u) * params.b_column;
        // unroll
        for (var f: u32 = 0u; f < EDGE; f++) {
            sums[e * EDGE + f] = 0.0;
        }
    }
    for (var k = 0u; k < params.terms; k++) {
        var value_b: array<f32, EDGE>;
        // unroll
        for (var f: u32 = 0u; f < EDGE; f++) {
            value_b[f] = b[right[f] + k * params.b_row];
        }
        // unroll
        for (var e: u32 = 0u; e < EDGE; e++) {
            let value_a = a[left[e] + k * params.a_column];
            // unroll
            for (var f: u32 = 0u; f < EDGE; f++) {
                sums[e * EDGE + f] += value_a * value_b[f];
            }
        }
    }
    let to_y = params.y_offset + group.z * params.y_batch;
    // unroll
    for (var e: u32 = 0u; e < EDGE; e++) {
        // unroll
        for (var f: u32 = 0u; f < EDGE; f++) {
            if row + e < params.rows && column + f < params.columns {
                if BIAS == 1u {
                    sums[e * EDGE + f] += bias[params.bias_offset + column + f];
                }
                y[to_y + (row + e) * params.y_row + (column + f) * params.y_column] = sums[e * EDGE + f];
            }
        }
    }
}
