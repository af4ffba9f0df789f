// p[j, i] = exp(scale s[j, i] - lse[i]) in place of the scores s[j, i], and ds[j, i] = scale p[j, i] (dp[j, i] - inner[i]) in place of
// dp[j, i] = dy[i] . v[j], for keys j and queries i: what the gradients of attention are products with, for CPU adapters
// (Dao et al. 2022, appendix B; products.rs).
//
// Index map: one invocation = four queries i of one head; x of the grid counts blocks of 64 of them, y heads. A row is whole vec4
// of queries; those beyond the end become zeros, since sums over the queries follow.
// Accuracy: exp errs by as many roundings as its argument has units. Deterministic: one writer an element.

struct Params {
    s_offset: u32,
    dp_offset: u32,
    lse_offset: u32,
    inner_offset: u32,
    tokens: u32,
    row: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lse: array<f32>;
@group(0) @binding(2) var<storage, read> inner: array<f32>;
@group(0) @binding(3) var<storage, read_write> s: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dp: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x * 64u + lane;
    if i >= params.row {
        return;
    }
    var log_sum = vec4(0.0);
    var taken_off = vec4(0.0);
    // unroll
    for (var k: u32 = 0u; k < 4u; k++) {
        if 4u * i + k < params.tokens {
            log_sum[k] = lse[params.lse_offset + group.y * params.tokens + 4u * i + k];
            taken_off[k] = inner[params.inner_offset + group.y * params.tokens + 4u * i + k];
        }
    }
    let is_query = vec4(4u * i) + vec4(0u, 1u, 2u, 3u) < vec4(params.tokens);
    let first = group.y * params.tokens * params.row + i;
    for (var j = 0u; j < params.tokens; j++) {
        let at = first + j * params.row;
        let found = exp(s[params.s_offset + at] * params.scale - log_sum);
        let p = select(vec4(0.0), found, is_query);
        s[params.s_offset + at] = p;
        dp[params.dp_offset + at] = p * (dp[params.dp_offset + at] - taken_off) * params.scale;
    }
}
