// y[n, c] = x[n, c - start] for start <= c < start + C_x, else 0: the gradient of a slice of channels.
//
// Index map: one workgroup = 256 consecutive elements of one sample of y; (x, y) of the grid count blocks, z is the
// sample. `first` and `last` bound the elements of y that x covers. Exact; dx of the slice is written `=`.

struct Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
    first: u32,
    last: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

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
    var value = 0.0;
    if i >= params.first && i < params.last {
        value = x[params.x_offset + n * params.x_batch + i - params.first];
    }
    y[params.y_offset + n * params.y_batch + i] = value;
}
