// y and lse as in attention/forward, with tiles of keys and values in workgroup memory, for GPUs.
//
// Index map: one invocation = one query i of one head; x of the grid counts workgroups of 64 queries, y heads, z samples. A tile
// is STEP channels of KEYS keys, loaded once for the 64 queries; KEYS scores are in registers and go on as in
// attention/forward. Zeros stand in beyond the ends; all invocations meet at the barriers, those beyond the end store nothing.
// y holds f32. Saves lse. Accuracy: as attention/forward. Deterministic: fixed order.
// The head is no constant of the kernel, so that any size runs; q and y are read again for each tile, in rows of 64 neighbours.

const KEYS: u32 = 32;
const STEP: u32 = 16;
const FOURS: u32 = KEYS / 4;
const LOWEST: f32 = -3.0e38;

struct Params {
    q_offset: u32,
    q_batch: u32,
    k_offset: u32,
    k_batch: u32,
    v_offset: u32,
    v_batch: u32,
    y_offset: u32,
    y_batch: u32,
    lse_offset: u32,
    lse_batch: u32,
    packs: u32,
    tokens: u32,
    head: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;

var<workgroup> tile: array<vec4<f32>, STEP * FOURS>;

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
    let to_y = params.y_offset + group.z * params.y_batch + first * params.tokens + query;
    var largest = LOWEST;
    var total = 0.0;
    for (var start = 0u; start < params.tokens; start += KEYS) {
        var s: array<vec4<f32>, FOURS>;
        // unroll
        for (var b: u32 = 0u; b < FOURS; b++) {
            s[b] = vec4(0.0);
        }
        for (var begin = 0u; begin < params.head; begin += STEP) {
            workgroupBarrier();
            for (var l = lane; l < STEP * FOURS; l += 64u) {
                tile[l] = four_of_k(begin + l / FOURS, from_k, start + l % FOURS * 4u);
            }
            workgroupBarrier();
            for (var c = 0u; c < min(STEP, params.head - begin); c++) {
                let value = q[from_q + (begin + c) * params.tokens];
                // unroll
                for (var b: u32 = 0u; b < FOURS; b++) {
                    s[b] += value * tile[c * FOURS + b];
                }
            }
        }
        var larger = largest;
        // unroll
        for (var b: u32 = 0u; b < FOURS; b++) {
            let key = vec4(start + b * 4u) + vec4(0u, 1u, 2u, 3u);
            s[b] = select(vec4(LOWEST), s[b] * params.scale, key < vec4(params.tokens));
            larger = max(larger, max(max(s[b].x, s[b].y), max(s[b].z, s[b].w)));
        }
        let keep = exp(largest - larger);
        largest = larger;
        total *= keep;
        // unroll
        for (var b: u32 = 0u; b < FOURS; b++) {
            s[b] = exp(s[b] - vec4(larger));
            total += (s[b].x + s[b].y) + (s[b].z + s[b].w);
        }
        let is_last = start + KEYS >= params.tokens;
        for (var begin = 0u; begin < params.head; begin += STEP) {
            workgroupBarrier();
            for (var l = lane; l < STEP * FOURS; l += 64u) {
                tile[l] = four_of_v(begin + l / FOURS, from_v, start + l % FOURS * 4u);
            }
            workgroupBarrier();
            for (var c = 0u; c < min(STEP, params.head - begin); c++) {
                var four = vec4(0.0);
                // unroll
                for (var b: u32 = 0u; b < FOURS; b++) {
                    four += s[b] * tile[c * FOURS + b];
                }
                var sum = (four.x + four.y) + (four.z + four.w);
                let at = to_y + (begin + c) * params.tokens;
                if is_inside {
                    if start > 0u {
                        sum += y[at] * keep;
                    }
                    y[at] = select(sum, sum / total, is_last);
                }
            }
        }
    }
    if is_inside {
        lse[params.lse_offset + group.z * params.lse_batch + group.y * params.tokens + i] = largest + log(total);
    }
}
