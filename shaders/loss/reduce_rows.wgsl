// y[n][row] = sum over parts of partials[(n * rows + row) * parts + part]: partial sums added up.
//
// Index map: one workgroup = one row (workgroup_id.x) of one sample (workgroup_id.y); each lane adds every 256th part,
// then the lanes are added in a tree. Accuracy: sums of parts / 256 + 8 roundings. Deterministic: the order depends on
// the number of parts alone.

struct Params {
    rows: u32,
    parts: u32,
    y_offset: u32,
    y_batch: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> tree: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = (group.y * params.rows + group.x) * params.parts;
    var sum = 0.0;
    for (var part = lane; part < params.parts; part += 256u) {
        sum += partials[first + part];
    }
    tree[lane] = sum;
    workgroupBarrier();
    for (var step = 128u; step > 0u; step >>= 1u) {
        if lane < step {
            tree[lane] += tree[lane + step];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        y[params.y_offset + group.y * params.y_batch + group.x] = tree[0];
    }
}
