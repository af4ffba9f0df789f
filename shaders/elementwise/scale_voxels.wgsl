// y[n, c, v] = scale[n, v] * x[n, c, v].
//
// Index map: one workgroup = LANES * STEPS consecutive packs of one channel, lane l taking l, l + LANES, ...; x of the
// grid counts blocks, y channels, z samples. Saves nothing: dx is the same with dy in place of x, and the gradient of the
// scale is elementwise/channel_dot of dy and x. Written `=`. Accuracy: one rounding. Deterministic: each output has one
// writer.

alias Pack = f32;
const LANES: u32 = 256;
const STEPS: u32 = 8;

struct Params {
    x_offset: u32,
    x_batch: u32,
    scale_offset: u32,
    scale_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Pack>;
@group(0) @binding(2) var<storage, read> scale: array<Pack>;
@group(0) @binding(3) var<storage, read_write> y: array<Pack>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = group.z;
    let c = group.y;
    let first = group.x * LANES * STEPS + lane;
    let from_x = params.x_offset + n * params.x_batch + c * params.packs;
    let from_scale = params.scale_offset + n * params.scale_batch;
    let to_y = params.y_offset + n * params.y_batch + c * params.packs;
    for (var s = 0u; s < STEPS; s++) {
        let i = first + s * LANES;
        if i >= params.packs {
            break;
        }
        y[to_y + i] = scale[from_scale + i] * x[from_x + i];
    }
}
