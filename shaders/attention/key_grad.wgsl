// dk[j] = scale * sum over i of ds[i, j] q[i] and dv[j] = sum over i of p[i, j] dy[i], with p and ds as in query_grad: the gradients of
// attention with respect to keys and values.
//
// Index map: one invocation = one pack of keys j of one head; x of the grid counts blocks of 64 packs, y heads, z samples. QUERIES
// queries at a time are in registers, the sums are in dkv, which holds f32: dk from dk_offset on, dv from dv_offset on. The
// queries beyond the end repeat the last one with weight 0. Itself part of a backward pass, it saves nothing.
// Accuracy: as forward, whose scores are rounded in the same way since only the sums are scaled, then a sum over the queries.
// Deterministic: one writer an element, fixed order, no atomics.
// The twin of tiled_key_grad, and for CPU adapters.

alias Pack = f32;
const QUERIES: u32 = 8;

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
@group(0) @binding(2) var<storage, read> k: array<Pack>;
@group(0) @binding(3) var<storage, read> v: array<Pack>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read> lse: array<f32>;
@group(0) @binding(6) var<storage, read> inner: array<f32>;
@group(0) @binding(7) var<storage, read_write> dkv: array<Pack>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let j = group.x * 64u + lane;
    if j >= params.packs {
        return;
    }
    let first = group.y * params.head;
    let from_q = params.q_offset + group.z * params.q_batch + first * params.tokens;
    let from_k = params.k_offset + group.z * params.k_batch + first * params.packs + j;
    let from_v = params.v_offset + group.z * params.v_batch + first * params.packs + j;
    let from_dy = params.dy_offset + group.z * params.dy_batch + first * params.tokens;
    let from_lse = params.lse_offset + group.z * params.lse_batch + group.y * params.tokens;
    let from_inner = params.inner_offset + group.z * params.inner_batch + group.y * params.tokens;
    let to_dk = params.dk_offset + group.z * params.dkv_batch + first * params.packs + j;
    let to_dv = params.dv_offset + group.z * params.dkv_batch + first * params.packs + j;
    for (var start = 0u; start < params.tokens; start += QUERIES) {
        var at: array<u32, QUERIES>;
        var s: array<Pack, QUERIES>;
        var p: array<Pack, QUERIES>;
        // unroll
        for (var b: u32 = 0u; b < QUERIES; b++) {
            at[b] = min(start + b, params.tokens - 1u);
            s[b] = Pack(0.0);
            p[b] = Pack(0.0);
        }
        for (var c = 0u; c < params.head; c++) {
            let key = k[from_k + c * params.packs];
            let value = v[from_v + c * params.packs];
            let q_row = from_q + c * params.tokens;
            let dy_row = from_dy + c * params.tokens;
            // unroll
            for (var b: u32 = 0u; b < QUERIES; b++) {
                s[b] += key * q[q_row + at[b]];
                p[b] += value * dy[dy_row + at[b]];
            }
        }
        // unroll
        for (var b: u32 = 0u; b < QUERIES; b++) {
            let dp = p[b] - inner[from_inner + at[b]];
            p[b] = select(Pack(0.0), exp(s[b] * params.scale - lse[from_lse + at[b]]), start + b < params.tokens);
            s[b] = p[b] * dp * params.scale;
        }
        for (var c = 0u; c < params.head; c++) {
            let q_row = from_q + c * params.tokens;
            let dy_row = from_dy + c * params.tokens;
            var dk = Pack(0.0);
            var dv = Pack(0.0);
            if start > 0u {
                dk = dkv[to_dk + c * params.packs];
                dv = dkv[to_dv + c * params.packs];
            }
            // unroll
            for (var b: u32 = 0u; b < QUERIES; b++) {
                dk += s[b] * q[q_row + at[b]];
                dv += p[b] * dy[dy_row + at[b]];
            }
            dkv[to_dk + c * params.packs] = dk;
            dkv[to_dv + c * params.packs] = dv;
        }
    }
}
