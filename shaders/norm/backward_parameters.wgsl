// Gradients of the parameters of a normalisation, sums over the samples of the totals of each row (n, c):
//   dbeta[c] = sum(dz), dgamma[c] = sum(dz xhat), PReLU only: dslope[c] = sum(dy z) where z <= 0;
// with PER_SAMPLE, where each sample has a scale and a shift of its own, dbeta[n, c] and dgamma[n, c] are the totals themselves.
//
// Index map: one invocation = one channel. Written `=`. Without PReLU dslope is not written, and scratch space stands at its
// binding. Accuracy: N - 1 roundings. Deterministic: samples in order.

const KIND: u32 = 0;
const PRELU: u32 = 5;
const PER_SAMPLE: u32 = 0;

struct Params {
    samples: u32,
    channels: u32,
    dgamma_offset: u32,
    dgamma_batch: u32,
    dbeta_offset: u32,
    dbeta_batch: u32,
    dslope_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> totals: array<f32>;
@group(0) @binding(2) var<storage, read_write> dgamma: array<f32>;
@group(0) @binding(3) var<storage, read_write> dbeta: array<f32>;
@group(0) @binding(4) var<storage, read_write> dslope: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= params.channels {
        return;
    }
    let plane = params.samples * params.channels;
    var sums = vec3<f32>(0.0);
    for (var n = 0u; n < params.samples; n++) {
        let row = n * params.channels + c;
        if PER_SAMPLE == 1 {
            dbeta[params.dbeta_offset + n * params.dbeta_batch + c] = totals[row];
            dgamma[params.dgamma_offset + n * params.dgamma_batch + c] = totals[plane + row];
        } else {
            sums.x += totals[row];
            sums.y += totals[plane + row];
        }
        if KIND == PRELU {
            sums.z += totals[2u * plane + row];
        }
    }
    if PER_SAMPLE == 0 {
        dbeta[params.dbeta_offset + c] = sums.x;
        dgamma[params.dgamma_offset + c] = sums.y;
    }
    if KIND == PRELU {
        dslope[params.dslope_offset + c] = sums.z;
    }
}
