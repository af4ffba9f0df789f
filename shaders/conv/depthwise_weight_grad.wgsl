// dw[o, k] = sum over n, p of dy[n, o, p] x[n, o / multiplier, p * stride + k * dilation - padding]
//
// The weight gradient where each group is one input channel. Index map: one workgroup = one row of taps (o, kz, ky), (x, y)
// of the grid count them. Its 64 invocations take every 64th strip of STRIP voxels of dy along x, with the row of x under
// it in registers, and keep a sum for each of the KW taps; a tree in workgroup memory adds the invocations' sums.
// Accuracy: sequential f32 sums of batch * voxels / 64 products and a tree of depth 6. Deterministic. Written `=`.

struct Params {
    x_offset: u32,
    x_batch: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    y_offset: u32,
    y_batch: u32,
    y_d: u32,
    y_h: u32,
    y_w: u32,
    w_offset: u32,
    w_batch: u32,
    batch: u32,
    channels: u32,
    multiplier: u32,
    strips: u32,
    kernel_d: u32,
    kernel_h: u32,
    stride_d: u32,
    stride_h: u32,
    dilation_d: u32,
    dilation_h: u32,
    padding_d: u32,
    padding_h: u32,
    padding_w: u32,
}

const KW: u32 = 3u;
const SW: u32 = 1u;
const STRIP: u32 = 8u;
const ROW: u32 = (STRIP - 1u) * SW + KW;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dw: array<f32>;

var<workgroup> shared_sums: array<f32, KW * 64u>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.y * groups.x + group.x;
    let rows = params.kernel_d * params.kernel_h;
    // Workgroups beyond the end compute the last row again and do not store it: a barrier allows no early return.
    let index = min(i, params.channels * rows - 1u);
    let o = index / rows;
    let kz = index / params.kernel_h % params.kernel_d;
    let ky = index % params.kernel_h;
    let strips = params.strips * params.y_h * params.y_d;
    let plane = params.x_h * params.x_w;

    var sums: array<f32, KW>;
    for (var n = 0u; n < params.batch; n++) {
        let x_first = params.x_offset + n * params.x_batch + o / params.multiplier * params.x_d * plane;
        let y_first = params.y_offset + n * params.y_batch + o * params.y_d * params.y_h * params.y_w;
        for (var s = lane; s < strips; s += 64u) {
            let ox = s % params.strips * STRIP;
            let oy = s / params.strips % params.y_h;
            let oz = s / (params.strips * params.y_h);
            let iz = oz * params.stride_d + kz * params.dilation_d - params.padding_d;
            let iy = oy * params.stride_h + ky * params.dilation_h - params.padding_h;
            let ix = ox * SW - params.padding_w;
            if iz >= params.x_d || iy >= params.x_h {
                continue;
            }
            let at = x_first + iz * plane + iy * params.x_w + ix;
            var row: array<f32, ROW>;
            // unroll
            for (var v: u32 = 0u; v < ROW; v++) {
                if ix + v < params.x_w {
                    row[v] = x[at + v];
                }
            }
            let y_at = y_first + (oz * params.y_h + oy) * params.y_w + ox;
            // unroll
            for (var v: u32 = 0u; v < STRIP; v++) {
                if ox + v < params.y_w {
                    let d = dy[y_at + v];
                    // unroll
                    for (var kx: u32 = 0u; kx < KW; kx++) {
                        sums[kx] += d * row[v * SW + kx];
                    }
                }
            }
        }
    }
    // unroll
    for (var kx: u32 = 0u; kx < KW; kx++) {
        shared_sums[kx * 64u + lane] = sums[kx];
    }
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            // unroll
            for (var kx: u32 = 0u; kx < KW; kx++) {
                shared_sums[kx * 64u + lane] += shared_sums[kx * 64u + lane + half];
            }
        }
    }
    if lane == 0u && i < params.channels * rows {
        // unroll
        for (var kx: u32 = 0u; kx < KW; kx++) {
            dw[params.w_offset + o * params.w_batch + (kz * params.kernel_h + ky) * KW + kx] = shared_sums[kx * 64u];
        }
    }
}
