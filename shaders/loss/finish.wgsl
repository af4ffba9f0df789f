// The value of a segmentation loss from its sums, and what its gradient needs of them.
//
// loss = pixel_weight * pixel / normaliser + region_weight * region, where with I = sum(p g), P = sum(p), G = sum(g) of a
// class, s = smooth, and the mean over classes (and over samples, unless they are summed first):
//   soft Dice        -mean((2 I + s) / max(P + G + s, 1e-8))
//   squared Dice      1 - mean(2 I / (P + G)), P = sum(p^2)             (Milletari 2016)
//   Tversky           1 - mean((I + s) / (I + alpha (P - I) + beta (G - I) + s))
//   generalised Dice  1 - mean(2 sum_c(w I) / sum_c(w (P + G))), w = 1 / G^2 (Sudre 2017); a class without a voxel takes
//                     the largest weight of the others
// d region / d p of a voxel is by_intersection * g + by_predicted (times p in the squared form);
// coefficients = [pixel_weight / normaliser, then for each (n, c) region_weight * (by_intersection, by_predicted)].
//
// Index map: one workgroup; its lanes share out the scores (sample or batch, class). Sums over samples and classes run
// in order, those over lanes in a tree. Accuracy: a few roundings. Deterministic.

// 0 none, 1 soft Dice, 2 squared Dice, 3 Tversky, 4 generalised Dice.
const REGION: u32 = 1u;

struct Params {
    samples: u32,
    classes: u32,
    first_class: u32,
    sum_samples: u32,
    // What the pixel loss is divided by: 0 its weights, 1 its voxels, times voxel_factor.
    by_voxels: u32,
    voxel_factor: f32,
    pixel_weight: f32,
    region_weight: f32,
    smooth_term: f32,
    alpha: f32,
    beta: f32,
    loss_offset: u32,
    stats_offset: u32,
    stats_batch: u32,
    coefficients_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> totals: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> coefficients: array<f32>;

const LANES: u32 = 64u;

var<workgroup> tree: array<f32, LANES>;

struct Sums {
    intersection: f32,
    predicted: f32,
    true_voxels: f32,
}

struct Score {
    value: f32,
    by_intersection: f32,
    by_predicted: f32,
}

// Row `q` summed over samples [first, last).
fn total(first: u32, last: u32, q: u32) -> f32 {
    var sum = 0.0;
    for (var n = first; n < last; n++) {
        sum += totals[n * (3u * params.classes + 3u) + q];
    }
    return sum;
}

fn class_sums(first: u32, last: u32, c: u32) -> Sums {
    return Sums(total(first, last, 3u * c), total(first, last, 3u * c + 1u), total(first, last, 3u * c + 2u));
}

fn score(s: Sums) -> Score {
    if REGION == 3u {
        let above = s.intersection + params.smooth_term;
        let below = max(
            above + params.alpha * (s.predicted - s.intersection) + params.beta * (s.true_voxels - s.intersection),
            1e-8,
        );
        let value = above / below;
        let by_intersection = (1.0 - value * (1.0 - params.alpha - params.beta)) / below;
        return Score(value, by_intersection, -params.alpha * value / below);
    }
    let below = max(s.predicted + s.true_voxels + params.smooth_term, 1e-8);
    let value = (2.0 * s.intersection + params.smooth_term) / below;
    let power = select(1.0, 2.0, REGION == 2u);
    return Score(value, 2.0 / below, -power * value / below);
}

fn store(first: u32, last: u32, c: u32, by_intersection: f32, by_predicted: f32, scale: f32) {
    for (var n = first; n < last; n++) {
        let at = params.coefficients_offset + 1u + 2u * (n * params.classes + c);
        coefficients[at] = scale * by_intersection;
        coefficients[at + 1u] = scale * by_predicted;
    }
}

fn generalised(first: u32, last: u32, scale: f32) -> f32 {
    var largest = 0.0;
    for (var c = params.first_class; c < params.classes; c++) {
        let voxels = total(first, last, 3u * c + 2u);
        if voxels > 0.0 {
            largest = max(largest, 1.0 / (voxels * voxels));
        }
    }
    var above = 0.0;
    var below = 0.0;
    for (var c = params.first_class; c < params.classes; c++) {
        let s = class_sums(first, last, c);
        let w = generalised_weight(s.true_voxels, largest);
        above += 2.0 * w * s.intersection;
        below += w * (s.predicted + s.true_voxels);
    }
    let inverse = select(0.0, 1.0 / below, below > 0.0);
    let value = above * inverse;
    for (var c = params.first_class; c < params.classes; c++) {
        let w = generalised_weight(total(first, last, 3u * c + 2u), largest);
        store(first, last, c, 2.0 * w * inverse, -value * w * inverse, scale);
    }
    return value;
}

fn generalised_weight(voxels: f32, largest: f32) -> f32 {
    if voxels > 0.0 {
        return 1.0 / (voxels * voxels);
    }
    return largest;
}

// The sum of the scores that this lane takes; d loss / d score = scale.
fn scores(lane: u32, batches: u32, per_batch: u32, scale: f32) -> f32 {
    var sum = 0.0;
    for (var unit = lane; unit < batches * per_batch; unit += LANES) {
        let batch = unit / per_batch;
        let first = batch;
        let last = select(batch + 1u, params.samples, params.sum_samples == 1u);
        if REGION == 4u {
            sum += generalised(first, last, scale);
        } else {
            let c = params.first_class + unit % per_batch;
            let s = score(class_sums(first, last, c));
            store(first, last, c, s.by_intersection, s.by_predicted, scale);
            sum += s.value;
        }
    }
    return sum;
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < params.samples * params.classes; i += LANES) {
        let n = i / params.classes;
        let c = i % params.classes;
        for (var k = 0u; k < 3u; k++) {
            stats[params.stats_offset + n * params.stats_batch + 3u * c + k] = total(n, n + 1u, 3u * c + k);
        }
        if REGION == 0u || c < params.first_class {
            store(n, n + 1u, c, 0.0, 0.0, 0.0);
        }
    }
    let batches = select(params.samples, 1u, params.sum_samples == 1u);
    let per_batch = select(params.classes - params.first_class, 1u, REGION == 4u);
    let number = f32(batches * per_batch);
    var sum = 0.0;
    if REGION != 0u {
        sum = scores(lane, batches, per_batch, -params.region_weight / number);
    }
    tree[lane] = sum;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step >>= 1u) {
        if lane < step {
            tree[lane] += tree[lane + step];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let weights = total(0u, params.samples, 3u * params.classes + 1u + params.by_voxels) * params.voxel_factor;
        // Where no voxel counts the loss is 0, not 0 / 0.
        let scale = select(0.0, params.pixel_weight / weights, weights > 0.0);
        coefficients[params.coefficients_offset] = scale;
        var value = scale * total(0u, params.samples, 3u * params.classes);
        if REGION != 0u {
            value += params.region_weight * (select(1.0, 0.0, REGION == 1u) - tree[0] / number);
        }
        loss[params.loss_offset] = value;
    }
}
