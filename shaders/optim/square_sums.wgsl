// partials[first + group] = sum of x^2 over the 4096 elements of this workgroup: a gradient's share of the norm.
//
// Index map: (x, y) of the grid count workgroups; a lane adds every 256th element, then the lanes are added in a tree.
// Accuracy: sums of 16 + 8 roundings. Deterministic: one writer, a fixed order.

struct Params {
    x_offset: u32,
    x_batch: u32,
    per_sample: u32,
    elements: u32,
    groups: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

// Whether samples follow each other without a gap, which saves a division an element.
const DENSE: u32 = 0u;
const PER_GROUP: u32 = 4096u;

var<workgroup> tree: array<f32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.y * grid.x + group.x;
    var sum = 0.0;
    for (var step = 0u; step < PER_GROUP; step += 256u) {
        let i = number * PER_GROUP + step + lane;
        if i < params.elements {
            var at = i;
            if DENSE == 0u {
                let n = i / params.per_sample;
                at = n * params.x_batch + (i - n * params.per_sample);
            }
            let v = x[params.x_offset + at];
            sum += v * v;
        }
    }
    tree[lane] = sum;
    workgroupBarrier();
    for (var step = 128u; step > 0u; step >>= 1u) {
        if lane < step {
            tree[lane] += tree[lane + step];
        }
        workgroupBarrier();
    }
    if lane == 0u && number < params.groups {
        partials[params.first + number] = tree[0];
    }
}
