// The multiply-adds of 32 bits that the adapter does at best: 8 chains in registers, nothing read or written between.
//
// Index map: one invocation = ROUNDS * 32 multiply-adds, then one element of y. 8 chains hide the latency of a
// multiply-add; with 24 or more, CPUs run out of registers. With x = 1/2 every chain c = c x + x tends to 1, whatever its
// start, so y tends to 8. Written `=`. Deterministic: each output has one writer.

const ROUNDS: u32 = 512;

struct Params {
    x_offset: u32,
    y_offset: u32,
    count: u32,
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
    if i >= params.count {
        return;
    }
    let s = x[params.x_offset];
    let start = f32(lane);
    var a = start;
    var b = start + 1.0;
    var c = start + 2.0;
    var d = start + 3.0;
    var e = start + 4.0;
    var f = start + 5.0;
    var g = start + 6.0;
    var h = start + 7.0;
    for (var round = 0u; round < ROUNDS; round++) {
        // unroll
        for (var k: u32 = 0u; k < 4u; k++) {
            a = fma(a, s, s);
            b = fma(b, s, s);
            c = fma(c, s, s);
            d = fma(d, s, s);
            e = fma(e, s, s);
            f = fma(f, s, s);
            g = fma(g, s, s);
            h = fma(h, s, s);
        }
    }
    y[params.y_offset + i] = ((a + b) + (c + d)) + ((e + f) + (g + h));
}
