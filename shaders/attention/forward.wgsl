// y[i] = sum over j of p[i, j] v[j], p[i, j] = exp(scale q[i] . k[j] - lse[i]), lse[i] = log of the sum over j of
// exp(scale q[i] . k[j]): attention of each head, without the matrix p (Rabe and Staats 2021; Dao et al. 2022).
//
// Index map: one invocation = one pack of queries i of one head; x of the grid counts blocks of 64 packs, y heads, z samples. KEYS
// scores at a time are in registers; the largest score so far, the sum relative to it and, in y, the weighted sum of v
// follow block by block (Milakov and Gimelshein 2018). The keys beyond the end repeat the last one with weight 0.
// y holds f32. Saves lse, from which backward makes p again.
// Accuracy: scores are sums of `head` products, and exp errs by as many roundings as its argument has units. Deterministic: fixed
// order. The twin of tiled_forward, and for CPU adapters: no workgroup memory.

alias Pack = f32;
const KEYS: u32 = 16;
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
@group(0) @binding(1) var<storage, read> q: array<Pack>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<Pack>;
@group(0) @binding(5) var<storage, read_write> lse: array<Pack>;

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
    let to_y = params.y_offset + group.z * params.y_batch + first * params.packs + i;
    var largest = Pack(LOWEST);
    var total = Pack(0.0);
    for (var start = 0u; start < params.tokens; start += KEYS) {
        var at: array<u32, KEYS>;
        var s: array<Pack, KEYS>;
        // unroll
        for (var b: u32 = 0u; b < KEYS; b++) {
            at[b] = min(start + b, params.tokens - 1u);
            s[b] = Pack(0.0);
        }
        for (var c = 0u; c < params.head; c++) {
            let value = q[from_q + c * params.packs];
            let row = from_k + c * params.tokens;
            // unroll
            for (var b: u32 = 0u; b < KEYS; b++) {
                s[b] += value * k[row + at[b]];
            }
        }
        var larger = largest;
        // unroll
        for (var b: u32 = 0u; b < KEYS; b++) {
            s[b] = select(Pack(LOWEST), s[b] * params.scale, start + b < params.tokens);
            larger = max(larger, s[b]);
        }
        let keep = exp(largest - larger);
        largest = larger;
        total *= keep;
        // unroll
        for (var b: u32 = 0u; b < KEYS; b++) {
            s[b] = exp(s[b] - larger);
            total += s[b];
        }
        let is_last = start + KEYS >= params.tokens;
        for (var c = 0u; c < params.head; c++) {
            let row = from_v + c * params.tokens;
            var sum = Pack(0.0);
            if start > 0u {
                sum = y[to_y + c * params.packs] * keep;
            }
            // unroll
            for (var b: u32 = 0u; b < KEYS; b++) {
                sum += s[b] * v[row + at[b]];
            }
            if is_last {
                sum = sum / total;
            }
            y[to_y + c * params.packs] = sum;
        }
    }
    let to_lse = params.lse_offset + group.z * params.lse_batch + group.y * params.packs + i;
    lse[to_lse] = largest + log(total);
}
