// losses[n] = -(1/N) sum over k of q[k] log p[n][k]: cross-entropy of images with one class each. p = softmax(x) over the
// classes, q = (1 - smoothing) one-hot(t) + smoothing / K, t = truth[n]. With m the largest logit and
// log Z = log of sum over k of exp(x[k] - m), a sample's loss is
//   (log Z - (1 - smoothing) (x[t] - m) + smoothing mean over k of (m - x[k])) / N.
// A label that is no class gives 0, and no gradient.
//
// Index map: one workgroup = one sample (workgroup_id.x); its lanes take every 64th class. `reduce_rows` adds the samples.
// Saves m, 1 / Z and 1 - p[t] of each sample for the gradient.
// Accuracy: the largest logit is taken out, no sum has terms of both signs, and where t has the largest logit
// log Z = log(1 + r) is summed as 2 atanh(r / (2 + r)), because WGSL's log has an absolute error near 1 that would be
// most of the loss of a sample that is told with confidence. Deterministic: lanes in order, then a tree.

struct Params {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    saved_offset: u32,
    saved_batch: u32,
    samples: u32,
    classes: u32,
    smoothing: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> truth: array<f32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;
@group(0) @binding(4) var<storage, read_write> saved: array<f32>;

const LANES: u32 = 64u;
const NO_CLASS: u32 = 0xffffffffu;

var<workgroup> largest: array<f32, LANES>;
// Of the classes of a lane: sum of exp(x - m) but for the true class, sum of m - x.
var<workgroup> sums: array<vec2<f32>, LANES>;

// log(1 + r), 0 <= r <= 1.
fn log_of_one_and(r: f32) -> f32 {
    let z = r / (2.0 + r);
    let s = z * z;
    let tail = 1.0 / 7.0 + s * (1.0 / 9.0 + s * (1.0 / 11.0 + s / 13.0));
    return 2.0 * z * (1.0 + s * (1.0 / 3.0 + s * (1.0 / 5.0 + s * tail)));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n = group.x;
    let first = params.x_offset + n * params.x_batch;
    let value = truth[params.truth_offset + n * params.truth_batch];
    let label = select(NO_CLASS, u32(value + 0.5), value > -0.5);
    var most = x[first];
    for (var k = lane; k < params.classes; k += LANES) {
        most = max(most, x[first + k]);
    }
    largest[lane] = most;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step >>= 1u) {
        if lane < step {
            largest[lane] = max(largest[lane], largest[lane + step]);
        }
        workgroupBarrier();
    }
    let m = largest[0];
    var sum = vec2<f32>(0.0);
    for (var k = lane; k < params.classes; k += LANES) {
        let below = m - x[first + k];
        sum += vec2<f32>(select(exp(-below), 0.0, k == label), below);
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step >>= 1u) {
        if lane < step {
            sums[lane] += sums[lane + step];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let is_class = label < params.classes;
        let own = x[first + min(label, params.classes - 1u)] - m;
        let rest = sums[0].x;
        let total = rest + exp(own);
        var log_total = log(total);
        if own == 0.0 && rest <= 1.0 {
            log_total = log_of_one_and(rest);
        }
        let spread = params.smoothing * sums[0].y / f32(params.classes);
        let loss = log_total - (1.0 - params.smoothing) * own + spread;
        losses[n] = select(0.0, loss / f32(params.samples), is_class);
        let at = params.saved_offset + n * params.saved_batch;
        saved[at] = m;
        saved[at + 1u] = 1.0 / total;
        saved[at + 2u] = rest / total;
    }
}
