// loss/gradient of softmax with labels and without weights, for a CPU adapter with u64, which moves eight f32 as four u64
// (src/ops/words.rs has the figures). With q_c = A_c g_c + B_c (B_c p_c in the squared form), the region loss's dL/dp:
//   dx_c = p_c (q_c - sum_j p_j q_j) + s k (g_c - p_c)
// k = d(-(1 - p_t)^gamma log p_t) / d log p_t = -(1 - p_t)^gamma + gamma (1 - p_t)^(gamma - 1) p_t log p_t; k = -1 for
// cross-entropy; s = pixel weight / normaliser. All times dloss.
//
// Index map: one invocation takes the words (eight voxels) part, part + parts, ... of sample workgroup_id.y, all classes of each.
// Written `=`, 0 where a voxel does not count. Accuracy: as `words_sums`; p again by log-sum-exp. Deterministic: each output
// has one writer.

const CLASSES: u32 = 4u;
// 0 none, 1 cross-entropy, 2 focal.
const PIXEL: u32 = 1u;
// Whether gamma is 2, which needs no power.
const GAMMA_2: u32 = 0u;
// 0 none, 1 linear in p, 2 the squared form.
const REGION: u32 = 1u;

struct Params {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    coefficients_offset: u32,
    dloss_offset: u32,
    dx_offset: u32,
    dx_batch: u32,
    words: u32,
    parts: u32,
    ignore_label: u32,
    gamma: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u64>>;
@group(0) @binding(2) var<storage, read> truth: array<vec4<u64>>;
@group(0) @binding(3) var<storage, read> coefficients: array<f32>;
@group(0) @binding(4) var<storage, read> dloss: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<u64>>;

const TINY: f32 = 1e-30;

// What multiplies g and what is left of q, for each class of this sample, times dloss.
var<private> by_intersection: array<f32, CLASSES>;
var<private> by_predicted: array<f32, CLASSES>;
var<private> logits: array<vec4<u64>, CLASSES>;
var<private> gradients: array<vec4<u64>, CLASSES>;

fn half_of(word: vec4<u64>, half: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word >> vec4<u32>(32u * half)));
}

fn region_slope(c: u32, p: vec4<f32>, hit: vec4<bool>) -> vec4<f32> {
    if REGION == 0u {
        return vec4(0.0);
    }
    let rest = by_predicted[c] * select(vec4(1.0), p, REGION == 2u);
    return rest + select(vec4(0.0), vec4(by_intersection[c]), hit);
}

// k of the header from rest = 1 - p_t and log p_t.
fn pixel_slope(rest: vec4<f32>, log_p: vec4<f32>) -> vec4<f32> {
    if PIXEL == 2u {
        if GAMMA_2 == 1u {
            return rest * (2.0 * (1.0 - rest) * log_p - rest);
        }
        let safe = max(rest, vec4(TINY));
        let power = pow(safe, vec4(params.gamma - 1.0));
        return power * (params.gamma * (1.0 - rest) * log_p - safe);
    }
    return vec4(select(0.0, -1.0, PIXEL == 1u));
}

fn add_half(values: vec4<f32>, half: u32, pixel_scale: f32) {
    let zero = vec4(0.0);
    let label = floor(values + 0.5);
    let counts = (values > vec4(-0.5)) & (label < vec4(f32(CLASSES))) & (label != vec4(f32(params.ignore_label)));
    var p: array<vec4<f32>, CLASSES>;
    var largest = half_of(logits[0], half);
    // unroll
    for (var c: u32 = 0u; c < CLASSES; c++) {
        p[c] = half_of(logits[c], half);
        largest = max(largest, p[c]);
    }
    var total = zero;
    var rest = zero;
    var own = zero;
    // unroll
    for (var c: u32 = 0u; c < CLASSES; c++) {
        let hit = label == vec4(f32(c));
        let shifted = p[c] - largest;
        p[c] = exp(shifted);
        own = select(own, shifted, hit);
        rest += select(p[c], zero, hit);
        total += p[c];
    }
    let scale = 1.0 / total;
    rest *= scale;
    var mean_slope = zero;
    // unroll
    for (var c: u32 = 0u; c < CLASSES; c++) {
        p[c] *= scale;
        mean_slope += p[c] * region_slope(c, p[c], label == vec4(f32(c)));
    }
    let k = pixel_scale * pixel_slope(rest, own - log(total));
    // unroll
    for (var c: u32 = 0u; c < CLASSES; c++) {
        let hit = label == vec4(f32(c));
        let region = p[c] * (region_slope(c, p[c], hit) - mean_slope);
        let slope = select(zero, region + k * select(-p[c], rest, hit), counts);
        gradients[c] |= vec4<u64>(bitcast<vec4<u32>>(slope)) << vec4<u32>(32u * half);
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n = group.y;
    let upstream = dloss[params.dloss_offset];
    let pixel_scale = upstream * coefficients[params.coefficients_offset];
    if REGION != 0u {
        // unroll
        for (var c: u32 = 0u; c < CLASSES; c++) {
            let at = params.coefficients_offset + 1u + 2u * (n * CLASSES + c);
            by_intersection[c] = upstream * coefficients[at];
            by_predicted[c] = upstream * coefficients[at + 1u];
        }
    }
    for (var i = group.x * 256u + lane; i < params.words; i += params.parts) {
        let labels = truth[params.truth_offset + n * params.truth_batch + i];
        // unroll
        for (var c: u32 = 0u; c < CLASSES; c++) {
            logits[c] = x[params.x_offset + n * params.x_batch + c * params.words + i];
            gradients[c] = vec4<u64>(0lu);
        }
        for (var half = 0u; half < 2u; half++) {
            add_half(half_of(labels, half), half, pixel_scale);
        }
        // unroll
        for (var c: u32 = 0u; c < CLASSES; c++) {
            dx[params.dx_offset + n * params.dx_batch + c * params.words + i] = gradients[c];
        }
    }
}
