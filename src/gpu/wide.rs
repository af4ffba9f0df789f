//! Storage in words of 64 bits, for a CPU that plays a GPU.
//!
//! There each access to a buffer is a loop over the lanes, once for each component: a vec4<f32> costs four such loops. As
//! vec2<u64>, the same sixteen bytes cost two, and taking the words apart is two instructions for all lanes. Real GPUs move a
//! vec4 at once, and many lack 64-bit integers; for them nothing changes.

use super::GpuError;
use super::accesses::{Stored, declared, restore};

const FUNCTIONS: &str = "\
fn wide_load(words: vec2<u64>) -> vec4<f32> {
    let low = bitcast<vec2<f32>>(vec2<u32>(words));
    let high = bitcast<vec2<f32>>(vec2<u32>(words >> vec2(32u)));
    return vec4(low.x, high.x, low.y, high.y);
}

fn wide_store(value: vec4<f32>) -> vec2<u64> {
    let bits = bitcast<vec4<u32>>(value);
    return vec2<u64>(bits.xz) | (vec2<u64>(bits.yw) << vec2(32u));
}
";

/// The text with every storage buffer of vec4<f32> moved in words of 64 bits.
///
/// # Errors
/// [`GpuError::Shader`] where a kernel stores less than a whole element of such a buffer.
pub(super) fn widen(kernel: &str, source: &str) -> Result<String, GpuError> {
    let buffers: Vec<_> = source
        .lines()
        .filter_map(|line| declared(source, line))
        .filter(|buffer| buffer.resolved == "vec4<f32>")
        .map(|buffer| Stored {
            name: buffer.name,
            element: "vec2<u64>",
            load: "wide_load",
            store: "wide_store",
        })
        .collect();
    if buffers.is_empty() {
        return Ok(source.to_owned());
    }
    let text = restore(source, &buffers).map_err(|reason| GpuError::Shader {
        kernel: kernel.to_owned(),
        reason,
    })?;
    Ok(text + FUNCTIONS)
}
