// y = a + b (OPERATION 0) or y = a * b (1), element by element.
//
// Index map: one workgroup = LANES * STEPS consecutive packs of one sample, lane l taking l, l + LANES, ...; (x, y) of the grid
// count blocks, z is the sample. IN_PLACE takes the first operand from y, and b then stands at the binding of a.
// Saves nothing: the gradients are dy for a sum, and products with dy for a product.
// Written `=`. Accuracy: one rounding. Deterministic: each output has one writer.

alias Pack = f32;
const OPERATION: u32 = 0;
const IN_PLACE: u32 = 0;
const LANES: u32 = 256;
const STEPS: u32 = 8;

struct Params {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Pack>;
@group(0) @binding(2) var<storage, read> b: array<Pack>;
@group(0) @binding(3) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = group.z;
    let first = (group.y * groups.x + group.x) * LANES * STEPS + lane;
    let from_a = params.a_offset + n * params.a_batch;
    let from_b = params.b_offset + n * params.b_batch;
    let to_y = params.y_offset + n * params.y_batch;
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        var left: Pack;
        if IN_PLACE == 1 {
            left = y[to_y + i];
        } else {
            left = a[from_a + i];
        }
        if OPERATION == 0 {
            y[to_y + i] = left + b[from_b + i];
        } else {
            y[to_y + i] = left * b[from_b + i];
        }
    }
}
