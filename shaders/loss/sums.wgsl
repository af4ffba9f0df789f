// Sums over voxels of a segmentation loss, in one pass over the logits: for each class sum(p g), sum(p) (or sum(p^2))
// and sum(g), and the pixel loss with its weights.
//
// p = softmax(x) over the classes with g = one-hot(label), or p = sigmoid(x) with g = region map. Pixel loss of a voxel
// of label t: -v (1 - p_t)^gamma log p_t, v = class weight * voxel weight (gamma = 0: cross-entropy). A voxel whose label
// is the ignored one or no class counts nowhere; a voxel of weight 0 counts in no region sum.
//
// Index map: one invocation takes voxels part, part + parts, part + 2 parts, ... of sample workgroup_id.y, so that
// neighbours read neighbours. Partial sums go to partials[(n * rows + row) * parts + part], rows = 3 * CLASSES + 3: the
// three sums of each class, then pixel loss, weight, voxels. `reduce_rows` adds them up.
// Accuracy: log-sum-exp with the largest logit taken out; 1 - p_t is summed from the other classes, never subtracted.
// Deterministic: each partial sum has one writer and a fixed order. Saves nothing; `gradient` computes p again.
// Loads are scalar, so any size and any offset will do: with `gradient`, 4 classes of 64^3 voxels take 20 to 30 ms on
// lavapipe with 2 busy cores, reading and writing included. A vec4 twin was not tried.

const CLASSES: u32 = 4u;
// 0 softmax over the classes with a label map, 1 sigmoid of each channel with region maps.
const SIGMOID: u32 = 0u;
// 0 none, 1 cross-entropy, 2 focal.
const PIXEL: u32 = 1u;
// Whether the second sum is that of p^2.
const SQUARED: u32 = 0u;
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
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;

const ROWS: u32 = 3u * CLASSES + 3u;
const NO_CLASS: u32 = 0xffffffffu;
// Stands for 0 below a power: pow(0, gamma) is exp2(gamma * -inf) on most devices.
const TINY: f32 = 1e-30;

struct Sums {
    intersection: array<f32, CLASSES>,
    predicted: array<f32, CLASSES>,
    true_voxels: array<f32, CLASSES>,
    pixel: f32,
    weight: f32,
    count: f32,
}

var<private> sums: Sums;

fn add_class(c: u32, p: f32, hit: bool, share: f32) {
    sums.intersection[c] += select(0.0, p * share, hit);
    sums.predicted[c] += select(p, p * p, SQUARED == 1u) * share;
    sums.true_voxels[c] += select(0.0, share, hit);
}

// (1 - p_t)^gamma from rest = 1 - p_t.
fn focus(rest: f32) -> f32 {
    if PIXEL == 2u {
        return pow(max(rest, TINY), params.gamma);
    }
    return 1.0;
}

fn add_softmax(n: u32, i: u32, voxel: f32, share: f32) {
    let value = truth[params.truth_offset + n * params.truth_batch + i];
    let label = select(NO_CLASS, u32(value + 0.5), value > -0.5);
    if label >= CLASSES || label == params.ignore_label {
        return;
    }
    let first = params.x_offset + n * params.x_batch + i;
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
    for (var c = 0u; c < CLASSES; c++) {
        add_class(c, p[c] * scale, c == label, share);
    }
    var v = voxel;
    if CLASS_WEIGHTED == 1u {
        v *= class_weight[params.class_weight_offset + label];
    }
    sums.pixel -= v * focus(rest * scale) * (own - log(total));
    sums.weight += v;
    sums.count += 1.0;
}

fn add_sigmoid(n: u32, i: u32, voxel: f32, share: f32) {
    for (var c = 0u; c < CLASSES; c++) {
        let logit = x[params.x_offset + n * params.x_batch + c * params.voxels + i];
        let hit = truth[params.truth_offset + n * params.truth_batch + c * params.voxels + i] > 0.5;
        let z = select(-logit, logit, hit);
        let e = exp(-abs(z));
        let small = e / (1.0 + e);
        let large = 1.0 / (1.0 + e);
        add_class(c, select(small, large, logit >= 0.0), hit, share);
        let rest = select(large, small, z >= 0.0);
        sums.pixel += voxel * focus(rest) * (max(-z, 0.0) + log(1.0 + e));
    }
    sums.weight += voxel;
    sums.count += 1.0;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n = group.y;
    let part = group.x * 256u + lane;
    for (var i = part; i < params.voxels; i += params.parts) {
        var voxel = 1.0;
        if VOXEL_WEIGHTED == 1u {
            voxel = voxel_weight[params.voxel_weight_offset + n * params.voxel_weight_batch + i];
        }
        let share = select(1.0, 0.0, voxel == 0.0);
        if SIGMOID == 1u {
            add_sigmoid(n, i, voxel, share);
        } else {
            add_softmax(n, i, voxel, share);
        }
    }
    let first = n * ROWS * params.parts + part;
    for (var c = 0u; c < CLASSES; c++) {
        partials[first + (3u * c) * params.parts] = sums.intersection[c];
        partials[first + (3u * c + 1u) * params.parts] = sums.predicted[c];
        partials[first + (3u * c + 2u) * params.parts] = sums.true_voxels[c];
    }
    partials[first + (3u * CLASSES) * params.parts] = sums.pixel;
    partials[first + (3u * CLASSES + 1u) * params.parts] = sums.weight;
    partials[first + (3u * CLASSES + 2u) * params.parts] = sums.count;
}
