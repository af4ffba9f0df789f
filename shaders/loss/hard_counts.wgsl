// True positives, false positives and false negatives of each class, with every voxel given to its largest logit
// (the first of equals), or with sigmoid to each region whose logit is above 0.
//
// A voxel of the ignored label, of no class, or of weight 0 counts nowhere. Index map: as `sums`: an invocation takes voxels
// part, part + parts, ... of sample workgroup_id.y; partials[(n * 3 CLASSES + 3 c + k) * parts + part]. Accuracy: exact up to
// 2^24 voxels a sample. Deterministic.

const CLASSES: u32 = 4u;
const SIGMOID: u32 = 0u;
const VOXEL_WEIGHTED: u32 = 0u;

struct Params {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    voxel_weight_offset: u32,
    voxel_weight_batch: u32,
    voxels: u32,
    parts: u32,
    ignore_label: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> truth: array<f32>;
@group(0) @binding(3) var<storage, read> voxel_weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> partials: array<f32>;

const NO_CLASS: u32 = 0xffffffffu;

var<private> true_positive: array<f32, CLASSES>;
var<private> false_positive: array<f32, CLASSES>;
var<private> false_negative: array<f32, CLASSES>;

fn count(c: u32, predicted: bool, hit: bool) {
    true_positive[c] += select(0.0, 1.0, predicted && hit);
    false_positive[c] += select(0.0, 1.0, predicted && !hit);
    false_negative[c] += select(0.0, 1.0, !predicted && hit);
}

fn count_label(n: u32, i: u32) {
    let value = truth[params.truth_offset + n * params.truth_batch + i];
    let label = select(NO_CLASS, u32(value + 0.5), value > -0.5);
    if label >= CLASSES || label == params.ignore_label {
        return;
    }
    let first = params.x_offset + n * params.x_batch + i;
    var largest = x[first];
    var best = 0u;
    for (var c = 1u; c < CLASSES; c++) {
        let logit = x[first + c * params.voxels];
        best = select(best, c, logit > largest);
        largest = max(largest, logit);
    }
    for (var c = 0u; c < CLASSES; c++) {
        count(c, c == best, c == label);
    }
}

fn count_regions(n: u32, i: u32) {
    for (var c = 0u; c < CLASSES; c++) {
        let logit = x[params.x_offset + n * params.x_batch + c * params.voxels + i];
        let region = truth[params.truth_offset + n * params.truth_batch + c * params.voxels + i];
        count(c, logit > 0.0, region > 0.5);
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n = group.y;
    let part = group.x * 256u + lane;
    for (var i = part; i < params.voxels; i += params.parts) {
        if VOXEL_WEIGHTED == 1u {
            if voxel_weight[params.voxel_weight_offset + n * params.voxel_weight_batch + i] == 0.0 {
                continue;
            }
        }
        if SIGMOID == 1u {
            count_regions(n, i);
        } else {
            count_label(n, i);
        }
    }
    let first = n * 3u * CLASSES * params.parts + part;
    for (var c = 0u; c < CLASSES; c++) {
        partials[first + (3u * c) * params.parts] = true_positive[c];
        partials[first + (3u * c + 1u) * params.parts] = false_positive[c];
        partials[first + (3u * c + 2u) * params.parts] = false_negative[c];
    }
}
