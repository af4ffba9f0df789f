// gram[n, i, j] = scale * sum over p of partials[n, p, i, j]: the parts of a product over all voxels, put together.
//
// Index map: one invocation = one gram[n, i, j], of C * C = `area` a sample; a workgroup takes 64 consecutive ones, (x, y) of the
// grid count workgroups. Saves nothing. Written `=`. Accuracy: at most `parts` roundings. Deterministic: parts in order.

struct Params {
    samples: u32,
    area: u32,
    parts: u32,
    gram_offset: u32,
    gram_batch: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> gram: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.y * groups.x + group.x) * 64u + lane;
    if at >= params.samples * params.area {
        return;
    }
    let n = at / params.area;
    let i = at % params.area;
    var sum = 0.0;
    for (var p = 0u; p < params.parts; p++) {
        sum += partials[(n * params.parts + p) * params.area + i];
    }
    gram[params.gram_offset + n * params.gram_batch + i] = params.scale * sum;
}
