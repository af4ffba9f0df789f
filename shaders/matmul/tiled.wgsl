// y[row, column] = sum over k of a[row, k] * b[k, column] (+ bias[column]), for each matrix of a batch.
//
// Any strides, so a transposed matrix is read where it lies. Without BIAS the third buffer is bound but not read.
// Index map: one invocation = EDGE x EDGE outputs, TILE rows and columns apart; a workgroup = TILE x TILE invocations, z of the grid
// is the batch. TILE terms at a time go through workgroup memory, so that each element is loaded once for TILE * EDGE
// outputs, and each read of workgroup memory serves EDGE products; zeros stand in beyond the edges.
// Saves nothing. Written `=`. Accuracy: a sequential sum over k, the order of naive. Deterministic.
// EDGE 1 is for small products, of which larger tiles would make too few workgroups.

const TILE: u32 = 16u;
const BIAS: u32 = 0u;
const EDGE: u32 = 1u;
const SIDE: u32 = TILE * EDGE;
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

var<workgroup> tile_a: array<array<f32, SIDE>, TILE>;
var<workgroup> tile_b: array<array<f32, SIDE>, TILE>;

@compute @workgroup_size(TILE, TILE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let row = group.y * SIDE + lane.y;
    let column = group.x * SIDE + lane.x;
    let left = params.a_offset + group.z * params.a_batch;
    let right = params.b_offset + group.z * params.b_batch;
    var sums: array<f32, EDGE * EDGE>;
    // unroll
    for (var e: u32 = 0u; e < EDGE * EDGE; e++) {
        sums[e] = 0.0;
    }
    for (var start = 0u; start < params.terms; start += TILE) {
        let term_a = start + lane.x;
        let term_b = start + lane.y;
        workgroupBarrier();
        // unroll
        for (var e: u32 = 0u; e < EDGE; e++) {
            var value_a = 0.0;
            var value_b = 0.0;
            if row + e * TILE < params.rows && term_a < params.terms {
                value_a = a[left + (row + e * TILE) * params.a_row + term_a * params.a_column];
            }
            if column + e * TILE < params.columns && term_b < params.terms {
                value_b = b[right + (column + e * TILE) * params.b_column + term_b * params.b_row];
            }
            tile_a[lane.x][lane.y + e * TILE] = value_a;
            tile_b[lane.y][lane.x + e * TILE] = value_b;
        }
        workgroupBarrier();
        for (var k = 0u; k < TILE; k++) {
            var value_b: array<f32, EDGE>;
            // unroll
            for (var f: u32 = 0u; f < EDGE; f++) {
                value_b[f] = tile_b[k][lane.x + f * TILE];
            }
            // unroll
            for (var e: u32 = 0u; e < EDGE; e++) {
                let value_a = tile_a[k][lane.y + e * TILE];
                // unroll
                for (var f: u32 = 0u; f < EDGE; f++) {
                    sums[e * EDGE + f] += value_a * value_b[f];
                }
            }
        }
    }
    let to_y = params.y_offset + group.z * params.y_batch;
    // unroll
    for (var e: u32 = 0u; e < EDGE; e++) {
        // unroll
        for (var f: u32 = 0u; f < EDGE; f++) {
            let at_row = row + e * TILE;
            let at_column = column + f * TILE;
            if at_row < params.rows && at_column < params.columns {
                if BIAS == 1u {
                    sums[e * EDGE + f] += bias[params.bias_offset + at_column];
                }
                y[to_y + at_row * params.y_row + at_column * params.y_column] = sums[e * EDGE + f];
            }
        }
    }
}
