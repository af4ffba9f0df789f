// dq[i] = scale * sum over j of ds[i, j] k[j], ds[i, j] = p[i, j] * (dy[i] . v[j] - inner[i]), p[i, j] = exp(scale q[i] . k[j] - lse[i]):
// the gradient of attention with respect to the queries, p made again from lse (Dao et al. 2022, appendix B).
//
// Index map: one invocation = one pack of queries i of one head; x of the grid counts blocks of 64 packs, y heads, z samples. KEYS keys at
// a time are in registers, the sum is in dq, which holds f32. The keys beyond the end repeat the last one with weight 0.
// Itself part of a backward pass, it saves nothing. Accuracy: as forward, whose scores are rounded in the same way, then a sum over
// the keys.
// Deterministic: one writer an element, fixed order. The twin of tiled_query_grad, and for CPU adapters.

alias Pack = f32;
const KEYS: u32 = 8;

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
@group(0) @binding(1) var<storage, read> q: array<Pack>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<Pack>;
@group(0) @binding(5) var<storage, read> lse: array<Pack>;
@group(0) @binding(6) var<storage, read> inner: array<Pack>;
@group(0) @binding(7) var<storage, read_write> dq: array<Pack>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x * 64u + lane;
    if i >= params.packs {
        return;
    }
    let first = group.y * params.head;
    let from_q = params.q_offset + group.z * params.q_batch + first * params.packs + i;
    let from_k = params.k_offset + group.z * params.k_batch + first * params.tokens;
    let from_v = params.v_offset + group.z * params.v_batch + first * params.tokens;
    let from_dy = params.dy_offset + group.z * params.dy_batch + first * params.packs + i;
    let to_dq = params.dq_offset + group.z * params.dq_batch + first * params.packs + i;
    let of_row = group.y * params.packs + i;
    let log_sum = lse[params.lse_offset + group.z * params.lse_batch + of_row];
    let taken_off = inner[params.inner_offset + group.z * params.inner_batch + of_row];
    for (var start = 0u; start < params.tokens; start += KEYS) {
        var at: array<u32, KEYS>;
        var s: array<Pack, KEYS>;
        var dp: array<Pack, KEYS>;
        // unroll
        for (var b: u32 = 0u; b < KEYS; b++) {
            at[b] = min(start + b, params.tokens - 1u);
            s[b] = Pack(0.0);
            dp[b] = Pack(0.0);
        }
        for (var c = 0u; c < params.head; c++) {
            let value = q[from_q + c * params.packs];
            let upstream = dy[from_dy + c * params.packs];
            let k_row = from_k + c * params.tokens;
            let v_row = from_v + c * params.tokens;
            // unroll
            for (var b: u32 = 0u; b < KEYS; b++) {
                s[b] += value * k[k_row + at[b]];
                dp[b] += upstream * v[v_row + at[b]];
            }
        }
        // unroll
        for (var b: u32 = 0u; b < KEYS; b++) {
            let ds = exp(s[b] * params.scale - log_sum) * (dp[b] - taken_off) * params.scale;
            s[b] = select(Pack(0.0), ds, start + b < params.tokens);
        }
        for (var c = 0u; c < params.head; c++) {
            let row = from_k + c * params.tokens;
            var sum = Pack(0.0);
            if start > 0u {
                sum = dq[to_dq + c * params.packs];
            }
            // unroll
            for (var b: u32 = 0u; b < KEYS; b++) {
                sum += s[b] * k[row + at[b]];
            }
            dq[to_dq + c * params.packs] = sum;
        }
    }
}
