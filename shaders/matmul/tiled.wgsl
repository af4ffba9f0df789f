// y[row, column] = sum over k of a[row, k] * b[k, column] (+ bias[column]), for each matrix of a batch.
//
// Any strides, so a transposed matrix is read where it lies. Without BIAS the third buffer is bound but not read.
// Index map: one invocation = one output; a workgroup = TILE x TILE outputs, z of the grid is the batch. TILE terms at a time go
// through workgroup memory, so that each element is loaded once for TILE outputs; zeros stand in beyond the edges.
// Saves nothing. Written `=`. Accuracy: a sequential sum over k, the order of naive. Deterministic.
// Larger register tiles wait for a network whose matrices are large; the squeeze of a 512-channel block is 2 x 512 x 32.

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

var<workgroup> tile_a: array<array<f32, TILE>, TILE>;
var<workgroup> tile_b: array<array<f32, TILE>, TILE>;

@compute @workgroup_size(TILE, TILE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let row = group.y * TILE + lane.y;
    let column = group.x * TILE + lane.x;
    let left = params.a_offset + group.z * params.a_batch + row * params.a_row;
    let right = params.b_offset + group.z * params.b_batch + column * params.b_column;
    var sum = 0.0;
    for (var start = 0u; start < params.terms; start += TILE) {
        let term_a = start + lane.x;
        let term_b = start + lane.y;
        var value_a = 0.0;
        var value_b = 0.0;
        if row < params.rows && term_a < params.terms {
            value_a = a[left + term_a * params.a_column];
        }
        if column < params.columns && term_b < params.terms {
            value_b = b[right + term_b * params.b_row];
        }
        tile_a[lane.y][lane.x] = value_a;
        tile_b[lane.y][lane.x] = value_b;
        workgroupBarrier();
        for (var k = 0u; k < TILE; k++) {
            sum += tile_a[lane.y][k] * tile_b[k][lane.x];
        }
        workgroupBarrier();
    }
    if row < params.rows && column < params.columns {
        if BIAS == 1u {
            sum += bias[params.bias_offset + column];
        }
        let at = params.y_offset + group.z * params.y_batch + row * params.y_row + column * params.y_column;
        y[at] = sum;
    }
}
