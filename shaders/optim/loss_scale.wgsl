// norm = scaled / s and factor = min(1, max_norm / (norm + 1e-6)) / s, s the scale of the loss; then s for the next step.
//
// Dynamic loss scaling (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2) with the rule of PyTorch's
// GradScaler: where `scaled`, the norm of all scaled gradients, is not finite, the factor is 0, which leaves out the step,
// and s becomes s / 2; after INTERVAL finite ones in a row s becomes 2 s, as long as that is finite. s stays a power of
// two, so that scaling rounds nothing. Index map: one invocation. Accuracy: a few roundings. Deterministic. The test
// for infinity and NaN looks at the bits, since a compiler may assume that there are none.

struct Params {
    scaled_offset: u32,
    norm_offset: u32,
    factor_offset: u32,
    scale_offset: u32,
    steps_offset: u32,
    max_norm: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scaled: array<f32>;
@group(0) @binding(2) var<storage, read_write> norm: array<f32>;
@group(0) @binding(3) var<storage, read_write> factor: array<f32>;
@group(0) @binding(4) var<storage, read_write> scale: array<f32>;
@group(0) @binding(5) var<storage, read_write> steps: array<f32>;

const EXPONENT: u32 = 0x7f800000u;
const INTERVAL: f32 = 2000.0;
const LARGEST: f32 = 1e38;

@compute @workgroup_size(1)
fn main() {
    let s = scale[params.scale_offset];
    let raw = scaled[params.scaled_offset];
    let length = raw / s;
    let is_finite = (bitcast<u32>(raw) & EXPONENT) != EXPONENT;
    norm[params.norm_offset] = length;
    if !is_finite {
        factor[params.factor_offset] = 0.0;
        scale[params.scale_offset] = 0.5 * s;
        steps[params.steps_offset] = 0.0;
        return;
    }
    factor[params.factor_offset] = min(1.0, params.max_norm / (length + 1e-6)) / s;
    let good = steps[params.steps_offset] + 1.0;
    let grows = good >= INTERVAL;
    steps[params.steps_offset] = select(good, 0.0, grows);
    scale[params.scale_offset] = select(s, 2.0 * s, grows && s < LARGEST);
}
