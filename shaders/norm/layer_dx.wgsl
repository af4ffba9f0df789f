// dx[c] = rstd * (g[c] - sum of g / C - xhat[c] * sum of g * xhat / C), g[c] = gamma[c] * dy[c], xhat[c] = (x[c] - mean) * rstd,
// the sums over the channels of a voxel: the paths through mean and rstd are in it.
//
// Index map, slices and sums as in norm/layer_stats. IN_PLACE takes dy from dx, and another buffer stands at the binding of dy:
// an invocation reads and writes the same elements. Itself part of a backward pass, it saves nothing. Written `=`.
// Accuracy: sequential sums of C / SLICES terms, then of SLICES. Deterministic: slices are added in their order.

alias Pack = f32;
const IN_PLACE: u32 = 0;
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
    gamma_offset: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    packs: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Pack>;
@group(0) @binding(2) var<storage, read> mean: array<Pack>;
@group(0) @binding(3) var<storage, read> rstd: array<Pack>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read> dy: array<Pack>;
@group(0) @binding(6) var<storage, read_write> dx: array<Pack>;

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
    let voxel = min(i, params.packs - 1u);
    let from_x = params.x_offset + n * params.x_batch + voxel;
    let from_dy = params.dy_offset + n * params.dy_batch + voxel;
    let to_dx = params.dx_offset + n * params.dx_batch + voxel;
    let m = mean[params.mean_offset + n * params.mean_batch + voxel];
    let r = rstd[params.rstd_offset + n * params.rstd_batch + voxel];
    let share = Pack(1.0 / f32(params.channels));
    var plain = Pack(0.0);
    var along = Pack(0.0);
    for (var c = slice; c < params.channels; c += SLICES) {
        var g: Pack;
        if IN_PLACE == 1 {
            g = dx[to_dx + c * params.packs];
        } else {
            g = dy[from_dy + c * params.packs];
        }
        g *= gamma[params.gamma_offset + c];
        plain += g;
        along += g * ((x[from_x + c * params.packs] - m) * r);
    }
    plain = total(plain, lane) * share;
    along = total(along, lane) * share;
    if i >= params.packs {
        return;
    }
    for (var c = slice; c < params.channels; c += SLICES) {
        var g: Pack;
        if IN_PLACE == 1 {
            g = dx[to_dx + c * params.packs];
        } else {
            g = dy[from_dy + c * params.packs];
        }
        g *= gamma[params.gamma_offset + c];
        let xhat = (x[from_x + c * params.packs] - m) * r;
        dx[to_dx + c * params.packs] = r * (g - plain - xhat * along);
    }
}
