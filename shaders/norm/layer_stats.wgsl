// mean = sum over c of x[c] / C and rstd = 1 / sqrt(sum over c of (x[c] - mean)^2 / C + eps), for each voxel of each sample.
//
// Index map: one workgroup = LANES / SLICES consecutive packs of voxels of one sample; lane l takes pack l % (LANES / SLICES) and,
// as slice l / (LANES / SLICES), the channels slice, slice + SLICES, ...; (x, y) of the grid count workgroups, z is the sample.
// Mean and rstd are what layer_apply and its gradients need; x is not copied.
// Two passes, the second around the mean of the first: a large mean costs no digits of the variance.
// Accuracy: sequential sums of C / SLICES terms, then of SLICES. Deterministic: slices are added in their order.

alias Pack = f32;
const LANES: u32 = 256;
const SLICES: u32 = 8;
const COLUMNS: u32 = LANES / SLICES;
const_assert LANES % SLICES == 0;

struct Params {
    x_offset: u32,
    x_batch: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    packs: u32,
    channels: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Pack>;
@group(0) @binding(2) var<storage, read_write> mean: array<Pack>;
@group(0) @binding(3) var<storage, read_write> rstd: array<Pack>;

var<workgroup> slices: array<Pack, LANES>;

// The sum of what the slices of a pack of voxels hold.
fn total(value: Pack, lane: u32) -> Pack {
    if SLICES == 1 {
        return value;
    }
    workgroupBarrier();
    slices[lane] = value;
    workgroupBarrier();
    var sum = Pack(0.0);
    for (var s = 0u; s < SLICES; s++) {
        sum += slices[s * COLUMNS + lane % COLUMNS];
    }
    return sum;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = group.z;
    let i = (group.y * groups.x + group.x) * COLUMNS + lane % COLUMNS;
    let slice = lane / COLUMNS;
    // All lanes meet at the barriers; those beyond the end repeat the last pack and store nothing.
    let from_x = params.x_offset + n * params.x_batch + min(i, params.packs - 1u);
    let share = Pack(1.0 / f32(params.channels));
    var sum = Pack(0.0);
    for (var c = slice; c < params.channels; c += SLICES) {
        sum += x[from_x + c * params.packs];
    }
    let m = total(sum, lane) * share;
    var squares = Pack(0.0);
    for (var c = slice; c < params.channels; c += SLICES) {
        let d = x[from_x + c * params.packs] - m;
        squares += d * d;
    }
    let variance = total(squares, lane) * share;
    if i < params.packs && slice == 0u {
        mean[params.mean_offset + n * params.mean_batch + i] = m;
        rstd[params.rstd_offset + n * params.rstd_batch + i] = Pack(1.0) / sqrt(variance + Pack(params.eps));
    }
}
