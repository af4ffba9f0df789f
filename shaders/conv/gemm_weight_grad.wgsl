// partial[s, o, (c, k)] = sum over the voxels p of part s of dy[n, o, p] x[n, c, p * stride + k * dilation - padding]
//
// The weight gradient as a matrix product on a GPU: M = output channels, N = input channels x taps, K = the voxels of
// all samples, split into parts that gemm_parts.wgsl adds up (one part writes dw itself).
// Index map: 256 invocations compute 4 * OG output channels x 4 * NG columns (c, k), each 4 x 4 of them; x and y of the
// grid count columns and channels, z the parts. Per step STEP voxels of one sample go through workgroup memory; each
// invocation loads the same 4 channels of dy and the same columns of x at every step, so that it decodes them once.
// Accuracy: sequential f32 sums of voxels / parts products, then of the parts. Deterministic: the order is fixed.

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
    out_offset: u32,
    out_row: u32,
    out_part: u32,
    channels_out: u32,
    columns: u32,
    steps_per_sample: u32,
    steps: u32,
    steps_per_part: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_d: u32,
    stride_h: u32,
    stride_w: u32,
    padding_d: u32,
    padding_h: u32,
    padding_w: u32,
    dilation_d: u32,
    dilation_h: u32,
    dilation_w: u32,
}

const OG: u32 = 16u;
const STEP: u32 = 16u;
const THREADS: u32 = 256u;
const NG: u32 = THREADS / OG;
const LOADS: u32 = STEP * NG / THREADS;
const_assert LOADS * THREADS == STEP * NG;
const_assert STEP * OG <= THREADS;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

var<workgroup> dy_tile: array<vec4<f32>, STEP * OG>;
var<workgroup> x_tile: array<vec4<f32>, STEP * NG>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let x_voxels = params.x_d * params.x_h * params.x_w;
    let y_voxels = params.y_d * params.y_h * params.y_w;
    let taps = params.kernel_d * params.kernel_h * params.kernel_w;
    let first_column = group.x * NG * 4u;
    let first_o = group.y * OG * 4u;

    // The columns that this invocation loads: where their channel begins, and the offset of their tap, which wraps round
    // below 0 and comes back when the voxel is added.
    let load_voxel = lane % STEP;
    let load_group = lane / STEP;
    var channel_at: array<u32, 4u * LOADS>;
    var tap_at: array<vec3<u32>, 4u * LOADS>;
    // unroll
    for (var j: u32 = 0u; j < 4u * LOADS; j++) {
        let column = min(first_column + (load_group + j / 4u * (THREADS / STEP)) * 4u + j % 4u, params.columns - 1u);
        channel_at[j] = params.x_offset + column / taps * x_voxels;
        tap_at[j] = vec3(
            column / (params.kernel_h * params.kernel_w) % params.kernel_d * params.dilation_d - params.padding_d,
            column / params.kernel_w % params.kernel_h * params.dilation_h - params.padding_h,
            column % params.kernel_w * params.dilation_w - params.padding_w,
        );
    }

    let column_group = lane % NG;
    let row_group = lane / NG;
    var sums: array<vec4<f32>, 4>;
    let first = group.z * params.steps_per_part;
    let last = min(first + params.steps_per_part, params.steps);
    for (var s = first; s < last; s++) {
        let n = s / params.steps_per_sample;
        let p = s % params.steps_per_sample * STEP + load_voxel;
        workgroupBarrier();
        if lane < STEP * OG {
            var value = vec4(0.0);
            // unroll
            for (var e: u32 = 0u; e < 4u; e++) {
                let o = first_o + load_group * 4u + e;
                if p < y_voxels && o < params.channels_out {
                    value[e] = dy[params.y_offset + n * params.y_batch + o * y_voxels + p];
                }
            }
            dy_tile[load_voxel * OG + load_group] = value;
        }
        let corner = vec3(
            p / (params.y_h * params.y_w) * params.stride_d,
            p / params.y_w % params.y_h * params.stride_h,
            p % params.y_w * params.stride_w,
        );
        // unroll
        for (var j: u32 = 0u; j < LOADS; j++) {
            var value = vec4(0.0);
            // unroll
            for (var e: u32 = 0u; e < 4u; e++) {
                let q = corner + tap_at[j * 4u + e];
                if p < y_voxels && q.x < params.x_d && q.y < params.x_h && q.z < params.x_w {
                    value[e] = x[channel_at[j * 4u + e] + n * params.x_batch + (q.x * params.x_h + q.y) * params.x_w + q.z];
                }
            }
            x_tile[load_voxel * NG + load_group + j * (THREADS / STEP)] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            let a = dy_tile[k * OG + row_group];
            let b = x_tile[k * NG + column_group];
            // unroll
            for (var e: u32 = 0u; e < 4u; e++) {
                sums[e] += a[e] * b;
            }
        }
    }

    // unroll
    for (var e: u32 = 0u; e < 4u; e++) {
        let o = first_o + row_group * 4u + e;
        // unroll
        for (var f: u32 = 0u; f < 4u; f++) {
            let column = first_column + column_group * 4u + f;
            if o < params.channels_out && column < params.columns {
                partial[params.out_offset + group.z * params.out_part + o * params.out_row + column] = sums[e][f];
            }
        }
    }
}
