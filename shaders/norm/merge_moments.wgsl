// Merges partial moments (count, mean, m2), FAN at a time (Chan, Golub and LeVeque 1979):
//   d = mean_b - mean_a, w = count_b / count, mean = mean_a + d w, m2 = m2_a + m2_b + d^2 count_a w.
//
// Index map: one invocation = one merged result; result q of a row merges members q, q + results, q + 2 results, ... of
// that row's `members`, so that neighbours read neighbours. Components of a pack stay streams of their own.
// `source` and `merged` hold three planes (count, mean, m2). Accuracy: at most FAN steps of a few roundings; what is added
// to m2 is never negative, so nothing cancels there. Counts are exact below 2^24. Deterministic: fixed order.

alias Pack = f32;
const FAN: u32 = 128;

struct Params {
    rows: u32,
    members: u32,
    results: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<Pack>;
@group(0) @binding(2) var<storage, read_write> merged: array<Pack>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let results = params.rows * params.results;
    if i >= results {
        return;
    }
    let row = i / params.results;
    let q = i % params.results;
    let plane = params.rows * params.members;
    var count = Pack(0.0);
    var mean = Pack(0.0);
    var m2 = Pack(0.0);
    for (var j = 0u; j < FAN; j++) {
        let member = q + j * params.results;
        if member >= params.members {
            break;
        }
        let at = row * params.members + member;
        let count_b = source[at];
        let d = source[plane + at] - mean;
        // Blocks at the end of a channel leave empty partial results.
        let total = max(count + count_b, Pack(1.0));
        let w = count_b / total;
        mean += d * w;
        m2 += source[2u * plane + at] + d * d * count * w;
        count += count_b;
    }
    merged[i] = count;
    merged[results + i] = mean;
    merged[2u * results + i] = m2;
}
