// y = x / (1 - p) where a number drawn for the element (or its channel) is at least p, else 0.
//
// The number is a hash of (element or channel, seed, salt) alone: pcg3d of Jarzynski and Olano (2020). So backward, which is
// the same kernel on dy, draws the same mask, and nothing is stored. The seed is a graph input that changes from step to
// step, its 32 bits stored as those of an f32; the salt tells the nodes of a graph apart. `threshold` is p * 2^32.
// Index map: one workgroup = 256 consecutive elements of one sample; (x, y) of the grid count blocks, z is the sample.
// Elements count densely over the tensor, wherever it lies; `first` is the number of the first one here. Exact but for the factor. Deterministic.

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
    first: u32,
    unit: u32,
    seed_offset: u32,
    salt: u32,
    threshold: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> seed: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

fn draw(key: vec3<u32>) -> u32 {
    var v = key * 1664525u + 1013904223u;
    v.x += v.y * v.z;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v ^= v >> vec3<u32>(16u);
    v.x += v.y * v.z;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    return v.x;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if i >= params.per_sample {
        return;
    }
    let n = group.z;
    let unit = (params.first + n * params.per_sample + i) / params.unit;
    let drawn = draw(vec3<u32>(unit, seed[params.seed_offset], params.salt));
    let value = x[params.x_offset + n * params.x_batch + i] * params.factor;
    y[params.y_offset + n * params.y_batch + i] = select(0.0, value, drawn >= params.threshold);
}
