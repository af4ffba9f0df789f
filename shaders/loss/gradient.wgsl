// dx of a segmentation loss, from the logits and the coefficients that `finish` left.
//
// With q_c = A_c g_c + B_c (B_c p_c in the squared form), the region loss's dL/dp:
//   softmax  dx_c = p_c (q_c - sum_j p_j q_j) + s v k (g_c - p_c)
//   sigmoid  dx_c = p_c (1 - p_c) q_c + s v k (1 - p_t) (+1 where g_c is 1, -1 elsewhere)
// k = d(-(1 - p_t)^gamma log p_t) / d log p_t = -(1 - p_t)^gamma + gamma (1 - p_t)^(gamma - 1) p_t log p_t; k = -1 for
// cross-entropy; s = pixel weight / normaliser, v = class weight * voxel weight. All times dloss.
//
// Index map: one invocation takes voxels part, part + parts, ... of sample workgroup_id.y, all classes of each. Written `=`,
// 0 where a voxel does not count. Accuracy: as `sums`; p again by log-sum-exp. Deterministic: each output has one writer.

const CLASSES: u32 = 4u;
const SIGMOID: u32 = 0u;
// 0 none, 1 cross-entropy, 2 focal.
const PIXEL: u32 = 1u;
// 0 none, 1 linear in p, 2 the squared form.
const REGION: u32 = 1u;
const CLASS_WEIGHTED: u32 = 0u;
const VOXEL_WEIGHTED: u32 = 0u;

struct Params {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    class_weight_offset: u32,
    voxel_weight_offset: u32,
    voxel_weight_batch: u32,
    coefficients_offset: u32,
    dloss_offset: u32,
    dx_offset: u32,
    dx_batch: u32,
    voxels: u32,
    parts: u32,
    ignore_label: u32,
    gamma: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> truth: array<f32>;
@group(0) @binding(3) var<storage, read> class_weight: array<f32>;
@group(0) @binding(4) var<storage, read> voxel_weight: array<f32>;
@group(0) @binding(5) var<storage, read> coefficients: array<f32>;
@group(0) @binding(6) var<storage, read> dloss: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<f32>;

const NO_CLASS: u32 = 0xffffffffu;
const TINY: f32 = 1e-30;

// What multiplies g and what is left of q, for each class of this sample, times dloss.
var<private> by_intersection: array<f32, CLASSES>;
var<private> by_predicted: array<f32, CLASSES>;

fn region_slope(c: u32, p: f32, hit: bool) -> f32 {
    if REGION == 0u {
        return 0.0;
    }
    let rest = by_predicted[c] * select(1.0, p, REGION == 2u);
    return rest + select(0.0, by_intersection[c], hit);
}

// k of the header from rest = 1 - p_t and log p_t.
fn pixel_slope(rest: f32, log_p: f32) -> f32 {
    if PIXEL == 2u {
        let safe = max(rest, TINY);
        let power = pow(safe, params.gamma - 1.0);
        return power * (params.gamma * (1.0 - rest) * log_p - safe);
    }
    return select(0.0, -1.0, PIXEL == 1u);
}

fn softmax_voxel(n: u32, i: u32, pixel_scale: f32) {
    let first = params.x_offset + n * params.x_batch + i;
    let to = params.dx_offset + n * params.dx_batch + i;
    let value = truth[params.truth_offset + n * params.truth_batch + i];
    let label = select(NO_CLASS, u32(value + 0.5), value > -0.5);
    if label >= CLASSES || label == params.ignore_label {
        for (var c = 0u; c < CLASSES; c++) {
            dx[to + c * params.voxels] = 0.0;
        }
        return;
    }
    var p: array<f32, CLASSES>;
    var largest = x[first];
    for (var c = 0u; c < CLASSES; c++) {
        p[c] = x[first + c * params.voxels];
        largest = max(largest, p[c]);
    }
    var total = 0.0;
    var rest = 0.0;
    var own = 0.0;
    for (var c = 0u; c < CLASSES; c++) {
        let shifted = p[c] - largest;
        let e = exp(shifted);
        own = select(own, shifted, c == label);
        rest += select(e, 0.0, c == label);
        total += e;
        p[c] = e;
    }
    let scale = 1.0 / total;
    rest *= scale;
    var voxel = 1.0;
    if VOXEL_WEIGHTED == 1u {
        voxel = voxel_weight[params.voxel_weight_offset + n * params.voxel_weight_batch + i];
    }
    let share = select(1.0, 0.0, voxel == 0.0);
    var mean_slope = 0.0;
    for (var c = 0u; c < CLASSES; c++) {
        p[c] *= scale;
        mean_slope += p[c] * region_slope(c, p[c], c == label);
    }
    var k = pixel_scale * voxel * pixel_slope(rest, own - log(total));
    if CLASS_WEIGHTED == 1u {
        k *= class_weight[params.class_weight_offset + label];
    }
    for (var c = 0u; c < CLASSES; c++) {
        let hit = c == label;
        let region = share * p[c] * (region_slope(c, p[c], hit) - mean_slope);
        dx[to + c * params.voxels] = region + k * select(-p[c], rest, hit);
    }
}

fn sigmoid_voxel(n: u32, i: u32, pixel_scale: f32) {
    var voxel = 1.0;
    if VOXEL_WEIGHTED == 1u {
        voxel = voxel_weight[params.voxel_weight_offset + n * params.voxel_weight_batch + i];
    }
    let share = select(1.0, 0.0, voxel == 0.0);
    for (var c = 0u; c < CLASSES; c++) {
        let logit = x[params.x_offset + n * params.x_batch + c * params.voxels + i];
        let hit = truth[params.truth_offset + n * params.truth_batch + c * params.voxels + i] > 0.5;
        let z = select(-logit, logit, hit);
        let e = exp(-abs(z));
        let small = e / (1.0 + e);
        let large = 1.0 / (1.0 + e);
        let p = select(small, large, logit >= 0.0);
        let rest = select(large, small, z >= 0.0);
        let k = voxel * pixel_slope(rest, min(z, 0.0) - log(1.0 + e)) * rest;
        let region = share * small * large * region_slope(c, p, hit);
        dx[params.dx_offset + n * params.dx_batch + c * params.voxels + i] =
            region + pixel_scale * select(-k, k, hit);
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n = group.y;
    let upstream = dloss[params.dloss_offset];
    let pixel_scale = upstream * coefficients[params.coefficients_offset];
    if REGION != 0u {
        for (var c = 0u; c < CLASSES; c++) {
            let at = params.coefficients_offset + 1u + 2u * (n * CLASSES + c);
            by_intersection[c] = upstream * coefficients[at];
            by_predicted[c] = upstream * coefficients[at + 1u];
        }
    }
    for (var i = group.x * 256u + lane; i < params.voxels; i += params.parts) {
        if SIGMOID == 1u {
            sigmoid_voxel(n, i, pixel_scale);
        } else {
            softmax_voxel(n, i, pixel_scale);
        }
    }
}
