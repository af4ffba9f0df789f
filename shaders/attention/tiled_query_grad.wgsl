// dq as in attention/query_grad, with tiles of keys and values in workgroup memory, for GPUs.
//
// Index map: one invocation = one query i of one head; x of the grid counts workgroups of 64 queries, y heads, z samples. A tile
// is STEP channels of KEYS keys or values, loaded once for the 64 queries. Zeros stand in beyond the ends; all invocations
// meet at the barriers, those beyond the end store nothing. dq holds f32. Itself part of a backward pass, it saves nothing.
// Accuracy: as attention/query_grad. Deterministic: one writer an element, fixed order.

const KEYS: u32 = 16;
const STEP: u32 = 16;
const FOURS: u32 = KEYS / 4;

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
    dq_offset: u32,
    dq_batch: u32,
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
@group(0) @binding(7) var<storage, read_write> dq: array<f32>;

var<workgroup> k_tile: array<vec4<f32>, STEP * FOURS>;
var<workgroup> v_tile: array<vec4<f32>, STEP * FOURS>;

// Four neighbouring tokens of a channel of k; 0 beyond the ends, of the tokens or of the head.
fn four_of_k(c: u32, row: u32, t: u32) -> vec4<f32> {
    var four = vec4(0.0);
    // unroll
    for (var e: u32 = 0u; e < 4u; e++) {
        if c < params.head && t + e < params.tokens {
            four[e] = k[row + c * params.tokens + t + e];
        }
    }
    return four;
}

// Four neighbouring tokens of a channel of v; 0 beyond the ends, of the tokens or of the head.
fn four_of_v(c: u32, row: u32, t: u32) -> vec4<f32> {
    var four = vec4(0.0);
    // unroll
    for (var e: u32 = 0u; e < 4u; e++) {
        if c < params.head && t + e < params.tokens {
            four[e] = v[row + c * params.tokens + t + e];
        }
    }
    return four;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x * 64u + lane;
    let is_inside = i < params.tokens;
    let query = min(i, params.tokens - 1u);
    let first = group.y * params.head;
    let from_q = params.q_offset + group.z * params.q_batch + first * params.tokens + query;
    let from_k = params.k_offset + group.z * params.k_batch + first * params.tokens;
    let from_v = params.v_offset + group.z * params.v_batch + first * params.tokens;
    let from_dy = params.dy_offset + group.z * params.dy_batch + first * params.tokens + query;
    let to_dq = params.dq_offset + group.z * params.dq_batch + first * params.tokens + query;
    let of_row = group.y * params.tokens + query;
    let log_sum = lse[params.lse_offset + group.z * params.lse_batch + of_row];
    let taken_off = inner[params.inner_offset + group.z * params.inner_batch + of_row];
    for (var start = 0u; start < params.tokens; start += KEYS) {
        var s: array<vec4<f32>, FOURS>;
        var dp: array<vec4<f32>, FOURS>;
        // unroll
        for (var b: u32 = 0u; b < FOURS; b++) {
            s[b] = vec4(0.0);
            dp[b] = vec4(0.0);
        }
        for (var begin = 0u; begin < params.head; begin += STEP) {
            workgroupBarrier();
            for (var l = lane; l < STEP * FOURS; l += 64u) {
                k_tile[l] = four_of_k(begin + l / FOURS, from_k, start + l % FOURS * 4u);
                v_tile[l] = four_of_v(begin + l / FOURS, from_v, start + l % FOURS * 4u);
            }
            workgroupBarrier();
            for (var c = 0u; c < min(STEP, params.head - begin); c++) {
                let value = q[from_q + (begin + c) * params.tokens];
                let upstream = dy[from_dy + (begin + c) * params.tokens];
                // unroll
                for (var b: u32 = 0u; b < FOURS; b++) {
                    s[b] += value * k_tile[c * FOURS + b];
                    dp[b] += upstream * v_tile[c * FOURS + b];
                }
            }
        }
        // unroll
        for (var b: u32 = 0u; b < FOURS; b++) {
            let key = vec4(start + b * 4u) + vec4(0u, 1u, 2u, 3u);
            let ds = exp(s[b] * params.scale - vec4(log_sum)) * (dp[b] - vec4(taken_off)) * params.scale;
            s[b] = select(vec4(0.0), ds, key < vec4(params.tokens));
        }
        for (var begin = 0u; begin < params.head; begin += STEP) {
            workgroupBarrier();
            for (var l = lane; l < STEP * FOURS; l += 64u) {
                k_tile[l] = four_of_k(begin + l / FOURS, from_k, start + l % FOURS * 4u);
            }
            workgroupBarrier();
            for (var c = 0u; c < min(STEP, params.head - begin); c++) {
                var four = vec4(0.0);
                // unroll
                for (var b: u32 = 0u; b < FOURS; b++) {
                    four += s[b] * k_tile[c * FOURS + b];
                }
                var sum = (four.x + four.y) + (four.z + four.w);
                let at = to_dq + (begin + c) * params.tokens;
                if is_inside {
                    if start > 0u {
                        sum += dq[at];
                    }
                    dq[at] = sum;
                }
            }
        }
    }
}
