// loss/sums of softmax with labels and without weights, for a CPU adapter with u64, which loads eight f32 as four u64
// (src/ops/words.rs has the figures): for each class sum(p g), sum(p) (or sum(p^2)) and sum(g), and the pixel loss.
//
// As there a voxel whose label is the ignored one or no class counts nowhere, whatever its logits are.
//
// Index map: one invocation takes the words (eight voxels) part, part + parts, ... of sample workgroup_id.y, and adds what it
// finds in a word to one number for each sum. `partials` is laid out as there: the sums of weights and of voxels are the same.
// Accuracy: log-sum-exp with the largest logit taken out; 1 - p_t is summed from the other classes, never subtracted.
// Deterministic: each partial sum has one writer and a fixed order. Saves nothing; `words_gradient` computes p again.

const CLASSES: u32 = 4u;
// 0 none, 1 cross-entropy, 2 focal.
const PIXEL: u32 = 1u;
// Whether gamma is 2, which needs no power.
const GAMMA_2: u32 = 0u;
// Whether the second sum is that of p^2.
const SQUARED: u32 = 0u;

struct Params {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    words: u32,
    parts: u32,
    ignore_label: u32,
    gamma: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u64>>;
@group(0) @binding(2) var<storage, read> truth: array<vec4<u64>>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;

const ROWS: u32 = 3u * CLASSES + 3u;
// Stands for 0 below a power: pow(0, gamma) is exp2(gamma * -inf) on most devices.
const TINY: f32 = 1e-30;

struct Sums {
    intersection: array<f32, CLASSES>,
    predicted: array<f32, CLASSES>,
    true_voxels: array<f32, CLASSES>,
    pixel: f32,
    count: f32,
}

var<private> sums: Sums;
var<private> logits: array<vec4<u64>, CLASSES>;

fn half_of(word: vec4<u64>, half: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(word >> vec4<u32>(32u * half)));
}

fn total(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

// (1 - p_t)^gamma from rest = 1 - p_t.
fn focus(rest: vec4<f32>) -> vec4<f32> {
    if PIXEL == 2u {
        if GAMMA_2 == 1u {
            return rest * rest;
        }
        return pow(max(rest, vec4(TINY)), vec4(params.gamma));
    }
    return vec4(1.0);
}

fn add(values: vec4<f32>, half: u32) {
    let zero = vec4(0.0);
    let label = floor(values + 0.5);
    let counts = (values > vec4(-0.5)) & (label < vec4(f32(CLASSES))) & (label != vec4(f32(params.ignore_label)));
    var e: array<vec4<f32>, CLASSES>;
    var largest = half_of(logits[0], half);
    // unroll
    for (var c: u32 = 0u; c < CLASSES; c++) {
        e[c] = half_of(logits[c], half);
        largest = max(largest, e[c]);
    }
    var all = zero;
    var rest = zero;
    var own = zero;
    // unroll
    for (var c: u32 = 0u; c < CLASSES; c++) {
        let hit = label == vec4(f32(c));
        let shifted = e[c] - largest;
        e[c] = exp(shifted);
        own = select(own, shifted, hit);
        rest += select(e[c], zero, hit);
        all += e[c];
    }
    let scale = 1.0 / all;
    // unroll
    for (var c: u32 = 0u; c < CLASSES; c++) {
        let hit = counts & (label == vec4(f32(c)));
        let p = select(zero, e[c] * scale, counts);
        sums.intersection[c] += total(select(zero, p, hit));
        sums.predicted[c] += total(select(p, p * p, SQUARED == 1u));
        sums.true_voxels[c] += total(select(zero, vec4(1.0), hit));
    }
    if PIXEL != 0u {
        sums.pixel -= total(select(zero, focus(rest * scale) * (own - log(all)), counts));
    }
    sums.count += total(select(zero, vec4(1.0), counts));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n = group.y;
    let part = group.x * 256u + lane;
    for (var i = part; i < params.words; i += params.parts) {
        let labels = truth[params.truth_offset + n * params.truth_batch + i];
        // unroll
        for (var c: u32 = 0u; c < CLASSES; c++) {
            logits[c] = x[params.x_offset + n * params.x_batch + c * params.words + i];
        }
        for (var half = 0u; half < 2u; half++) {
            add(half_of(labels, half), half);
        }
    }
    let first = n * ROWS * params.parts + part;
    // unroll
    for (var c: u32 = 0u; c < CLASSES; c++) {
        partials[first + (3u * c) * params.parts] = sums.intersection[c];
        partials[first + (3u * c + 1u) * params.parts] = sums.predicted[c];
        partials[first + (3u * c + 2u) * params.parts] = sums.true_voxels[c];
    }
    partials[first + (3u * CLASSES) * params.parts] = sums.pixel;
    partials[first + (3u * CLASSES + 1u) * params.parts] = sums.count;
    partials[first + (3u * CLASSES + 2u) * params.parts] = sums.count;
}
