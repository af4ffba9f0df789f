// dk and dv as in attention/key_grad, with tiles of queries and upstream gradients in workgroup memory, for GPUs.
//
// Index map: one invocation = one key j of one head; x of the grid counts workgroups of 64 keys, y heads, z samples. A tile is
// STEP channels of QUERIES queries or gradients, loaded once for the 64 keys. Zeros stand in beyond the ends; all
// invocations meet at the barriers, those beyond the end store nothing. dkv holds f32. It saves nothing.
// Accuracy: as attention/key_grad. Deterministic: one writer an element, fixed order, no atomics.

const QUERIES: u32 = 16;
const STEP: u32 = 16;
const FOURS: u32 = QUERIES / 4;

struct Params {
    q_offset: u32,
    q_batch: u32,
    k_offset: u32,
    k_batch: u32,
    v_offset: u32,
    v_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    lse_offset: u32,
    lse_batch: u32,
    inner_offset: u32,
    inner_batch: u32,
    dk_offset: u32,
    dv_offset: u32,
    dkv_batch: u32,
    packs: u32,
    tokens: u32,
    head: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read> lse: array<f32>;
@group(0) @binding(6) var<storage, read> inner: array<f32>;
@group(0) @binding(7) var<storage, read_write> dkv: array<f32>;

var<workgroup> q_tile: array<vec4<f32>, STEP * FOURS>;
var<workgroup> dy_tile: array<vec4<f32>, STEP * FOURS>;

// Four neighbouring tokens of a channel of q; 0 beyond the ends, of the tokens or of the head.
fn four_of_q(c: u32, row: u32, t: u32) -> vec4<f32> {
    var four = vec4(0.0);
    // unroll
    for (var e: u32 = 0u; e < 4u; e++) {
        if c < params.head && t + e < params.tokens {
            four[e] = q[row + c * params.tokens + t + e];
        }
    }
    return four;
}

// Four neighbouring tokens of a channel of dy; 0 beyond the ends, of the tokens or of the head.
fn four_of_dy(c: u32, row: u32, t: u32) -> vec4<f32> {
    var four = vec4(0.0);
    // unroll
    for (var e: u32 = 0u; e < 4u; e++) {
        if c < params.head && t + e < params.tokens {
            four[e] = dy[row + c * params.tokens + t + e];
        }
    }
    return four;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let j = group.x * 64u + lane;
    let is_inside = j < params.tokens;
    let key = min(j, params.tokens - 1u);
    let first = group.y * params.head;
    let from_q = params.q_offset + group.z * params.q_batch + first * params.tokens;
    let from_k = params.k_offset + group.z * params.k_batch + first * params.tokens + key;
    let from_v = params.v_offset + group.z * params.v_batch + first * params.tokens + key;
    let from_dy = params.dy_offset + group.z * params.dy_batch + first * params.tokens;
    let from_lse = params.lse_offset + group.z * params.lse_batch + group.y * params.tokens;
    let from_inner = params.inner_offset + group.z * params.inner_batch + group.y * params.tokens;
    let to_dk = params.dk_offset + group.z * params.dkv_batch + first * params.tokens + key;
    let to_dv = params.dv_offset + group.z * params.dkv_batch + first * params.tokens + key;
    for (var start = 0u; start < params.tokens; start += QUERIES) {
        var s: array<vec4<f32>, FOURS>;
        var p: array<vec4<f32>, FOURS>;
        // unroll
        for (var b: u32 = 0u; b < FOURS; b++) {
            s[b] = vec4(0.0);
            p[b] = vec4(0.0);
        }
        for (var begin = 0u; begin < params.head; begin += STEP) {
            workgroupBarrier();
            for (var l = lane; l < STEP * FOURS; l += 64u) {
                q_tile[l] = four_of_q(begin + l / FOURS, from_q, start + l % FOURS * 4u);
                dy_tile[l] = four_of_dy(begin + l / FOURS, from_dy, start + l % FOURS * 4u);
            }
            workgroupBarrier();
            for (var c = 0u; c < min(STEP, params.head - begin); c++) {
                let of_key = k[from_k + (begin + c) * params.tokens];
                let of_value = v[from_v + (begin + c) * params.tokens];
                // unroll
                for (var b: u32 = 0u; b < FOURS; b++) {
                    s[b] += of_key * q_tile[c * FOURS + b];
                    p[b] += of_value * dy_tile[c * FOURS + b];
                }
            }
        }
        // unroll
        for (var b: u32 = 0u; b < FOURS; b++) {
            // unroll
            for (var e: u32 = 0u; e < 4u; e++) {
                let query = min(start + b * 4u + e, params.tokens - 1u);
                let dp = p[b][e] - inner[from_inner + query];
                p[b][e] = select(0.0, exp(s[b][e] * params.scale - lse[from_lse + query]), start + b * 4u + e < params.tokens);
                s[b][e] = p[b][e] * dp * params.scale;
            }
        }
        for (var begin = 0u; begin < params.head; begin += STEP) {
            workgroupBarrier();
            for (var l = lane; l < STEP * FOURS; l += 64u) {
                q_tile[l] = four_of_q(begin + l / FOURS, from_q, start + l % FOURS * 4u);
                dy_tile[l] = four_of_dy(begin + l / FOURS, from_dy, start + l % FOURS * 4u);
            }
            workgroupBarrier();
            for (var c = 0u; c < min(STEP, params.head - begin); c++) {
                var of_key = vec4(0.0);
                var of_value = vec4(0.0);
                // unroll
                for (var b: u32 = 0u; b < FOURS; b++) {
                    of_key += s[b] * q_tile[c * FOURS + b];
                    of_value += p[b] * dy_tile[c * FOURS + b];
                }
                var dk = (of_key.x + of_key.y) + (of_key.z + of_key.w);
                var dv = (of_value.x + of_value.y) + (of_value.z + of_value.w);
                let at = (begin + c) * params.tokens;
                if is_inside {
                    if start > 0u {
                        dk += dkv[to_dk + at];
                        dv += dkv[to_dv + at];
                    }
                    dkv[to_dk + at] = dk;
                    dkv[to_dv + at] = dv;
                }
            }
        }
    }
}
