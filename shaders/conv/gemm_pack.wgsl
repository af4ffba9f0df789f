// packed[t, c, o] = w[o * out_stride + c * in_stride + tap(t)], tap(t) = first + t * step along each axis; zeros beyond
//
// The weight as gemm_correlate.wgsl reads it: output channels fastest and filled up to whole tiles, input channels
// filled up to whole steps. A negligible part of the convolution.
// Index map: one invocation = one vec4 of `packed`; 64 consecutive ones a workgroup, (x, y) of the grid count the
// blocks. Exact.

struct Params {
    w_offset: u32,
    out_stride: u32,
    in_stride: u32,
    channels_in: u32,
    channels_out: u32,
    padded_in: u32,
    vectors_out: u32,
    packed_first: u32,
    taps_d: u32,
    taps_h: u32,
    taps_w: u32,
    first_d: u32,
    first_h: u32,
    first_w: u32,
    step_d: u32,
    step_h: u32,
    step_w: u32,
    kernel_h: u32,
    kernel_w: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> packed: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let c = i / params.vectors_out % params.padded_in;
    let t = i / (params.vectors_out * params.padded_in);
    if t >= params.taps_d * params.taps_h * params.taps_w {
        return;
    }
    let z = params.first_d + t / (params.taps_h * params.taps_w) * params.step_d;
    let y = params.first_h + t / params.taps_w % params.taps_h * params.step_h;
    let x = params.first_w + t % params.taps_w * params.step_w;
    let tap = (z * params.kernel_h + y) * params.kernel_w + x;
    var value = vec4(0.0);
    for (var k = 0u; k < 4u; k++) {
        let o = i % params.vectors_out * 4u + k;
        if c < params.channels_in && o < params.channels_out {
            value[k] = w[params.w_offset + o * params.out_stride + c * params.in_stride + tap];
        }
    }
    packed[params.packed_first + i] = value;
}
