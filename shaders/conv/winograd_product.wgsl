// M[point, o, t] = sum over c of U[point, c, o] V[point, c, t]: one matrix product for each point of Winograd's algorithm.
//
// For GPUs, with the tiles of gemm_correlate.wgsl but without its gathering: V and M lie in vec4 of four tiles t, U in vec4 of
// four channels o. Index map: 256 invocations compute 4 * MG * MV tiles x 4 * OG channels, each 4 * MV x 4 of them; (x, y) of
// the grid count blocks, channels fastest, z points. Per step, STEP channels c go through workgroup memory.
// Accuracy: one sequential f32 sum over channels. Deterministic.

struct Params {
    v_point: u32,
    v_channel: u32,
    u_point: u32,
    m_point: u32,
    m_channel: u32,
    channels_in: u32,
    channels_out: u32,
    steps: u32,
    tiles_out: u32,
    vectors: u32,
}

const OG: u32 = 16u;
const MV: u32 = 2u;
const STEP: u32 = 16u;
const THREADS: u32 = 256u;
const MG: u32 = THREADS / OG;
const VECTORS: u32 = MG * MV;
const LOADS: u32 = STEP * VECTORS / THREADS;
const_assert LOADS * THREADS == STEP * VECTORS;
const_assert STEP * OG <= THREADS;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> u: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> m: array<vec4<f32>>;

var<workgroup> v_tile: array<vec4<f32>, STEP * VECTORS>;
var<workgroup> u_tile: array<vec4<f32>, STEP * OG>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group.y * groups.x + group.x;
    let tile_out = block % params.tiles_out;
    let first = block / params.tiles_out * VECTORS;
    let point = group.z;

    let load_vector = lane % VECTORS;
    let load_channel = lane / VECTORS;
    let is_tile = first + load_vector < params.vectors;
    let column = lane % MG;
    let row = lane / MG;
    var sums: array<vec4<f32>, 4u * MV>;
    for (var s = 0u; s < params.steps; s++) {
        workgroupBarrier();
        // unroll
        for (var j: u32 = 0u; j < LOADS; j++) {
            let k = load_channel + j * (THREADS / VECTORS);
            let c = s * STEP + k;
            var value = vec4(0.0);
            if is_tile && c < params.channels_in {
                value = v[point * params.v_point + c * params.v_channel + first + load_vector];
            }
            v_tile[k * VECTORS + load_vector] = value;
        }
        if lane < STEP * OG {
            let k = s * STEP + lane / OG;
            u_tile[lane] = u[point * params.u_point + (k * params.tiles_out + tile_out) * OG + lane % OG];
        }
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            let b = u_tile[k * OG + row];
            // unroll
            for (var j: u32 = 0u; j < MV; j++) {
                let a = v_tile[k * VECTORS + j * MG + column];
                // unroll
                for (var f: u32 = 0u; f < 4u; f++) {
                    sums[j * 4u + f] += a * b[f];
                }
            }
        }
    }

    let o_first = (tile_out * OG + row) * 4u;
    // unroll
    for (var f: u32 = 0u; f < 4u; f++) {
        // unroll
        for (var j: u32 = 0u; j < MV; j++) {
            let vector = first + j * MG + column;
            if o_first + f < params.channels_out && vector < params.vectors {
                m[point * params.m_point + (o_first + f) * params.m_channel + vector] = sums[j * 4u + f];
            }
        }
    }
}
