//! The form in which the storage buffers of a kernel hold what it computes with, in f32.
//!
//! **f16.** A file says what it computes. Where a buffer of a dispatch holds f16, its loads and stores are converted, so that
//! arithmetic stays the same; each buffer has an element type of its own, and all of them mix.
//!
//! **Words of 64 bits**, for a CPU that plays a GPU. There each access to a buffer is a loop over the lanes, once for each
//! component: a `vec4<f32>` costs four such loops. As `vec2<u64>` the same sixteen bytes cost two, and a vec4 of f16, one u64,
//! costs one; taking the words apart is a few instructions for all lanes. Real GPUs move a vec4 at once, and many lack
//! 64-bit integers; for them nothing changes.

use super::GpuError;
use super::accesses::{Declared, Stored, declared, restore};
use crate::tensor::Element;

const WIDE: &str = "\
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

const WIDE_HALVES: &str = "\
fn wide_load_halves(word: u64) -> vec4<f32> {
    return vec4(unpack2x16float(u32(word)), unpack2x16float(u32(word >> 32u)));
}

fn wide_store_halves(value: vec4<f32>) -> u64 {
    return u64(pack2x16float(value.xy)) | (u64(pack2x16float(value.zw)) << 32u);
}
";

/// The text in which binding k + 1 holds elements of type `elements[k]`, those beyond the end of the list f32, and where
/// `wide` every vec4 is moved in words of 64 bits.
///
/// # Errors
/// [`GpuError::Shader`] where a buffer that is to hold f16 is no array of f32 or `vec4<f32>`, or where a kernel stores less
/// than a whole element of a converted buffer.
pub(super) fn store_as(
    kernel: &str,
    source: &str,
    elements: &[Element],
    wide: bool,
) -> Result<String, GpuError> {
    convert(source, elements, wide).map_err(|reason| GpuError::Shader {
        kernel: kernel.to_owned(),
        reason,
    })
}

fn convert(source: &str, elements: &[Element], wide: bool) -> Result<String, String> {
    let mut buffers = Vec::new();
    for buffer in source.lines().filter_map(|line| declared(source, line)) {
        let stored = buffer.binding.checked_sub(1).and_then(|k| elements.get(k));
        buffers.extend(form(buffer, stored.copied().unwrap_or_default(), wide)?);
    }
    if buffers.is_empty() {
        return Ok(source.to_owned());
    }
    let mut text = restore(source, &buffers)?;
    for functions in [WIDE, WIDE_HALVES] {
        if buffers
            .iter()
            .any(|b| functions.contains(&format!("fn {}(", b.load)))
        {
            text += functions;
        }
    }
    match buffers.iter().any(|b| b.element.contains("f16")) {
        true => Ok(format!("enable f16;\n{text}")),
        false => Ok(text),
    }
}

/// How `buffer` is stored where that is not as the kernel says.
fn form<'a>(
    buffer: Declared<'a>,
    stored: Element,
    wide: bool,
) -> Result<Option<Stored<'a>>, String> {
    let (element, load, store) = match (stored, buffer.resolved, wide) {
        (Element::F32, "vec4<f32>", true) => ("vec2<u64>", "wide_load", "wide_store"),
        (Element::F32, ..) => return Ok(None),
        (Element::F16, "f32", _) => ("f16", "f32", "f16"),
        (Element::F16, "vec4<f32>", false) => ("vec4<f16>", "vec4<f32>", "vec4<f16>"),
        (Element::F16, "vec4<f32>", true) => ("u64", "wide_load_halves", "wide_store_halves"),
        (Element::F16, other, _) => {
            return Err(format!(
                "`{}` is an array of {other}, which cannot hold f16",
                buffer.name
            ));
        }
    };
    Ok(Some(Stored {
        name: buffer.name,
        element,
        load,
        store,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Element::{F16, F32};

    const SOURCE: &str = "alias Pack = vec4<f32>;\n\
        @group(0) @binding(1) var<storage, read> x: array<Pack>;\n\
        @group(0) @binding(2) var<storage, read> at: array<u32>;\n\
        @group(0) @binding(3) var<storage, read_write> y: array<f32>;\n\
        y[at[i]] = x[i].w;\n";

    #[test]
    fn each_buffer_is_stored_as_its_operand() {
        for (elements, wide, first, x, y, line) in [
            (vec![], false, "alias", "Pack", "f32", "y[at[i]] = x[i].w;"),
            (
                vec![],
                true,
                "alias",
                "vec2<u64>",
                "f32",
                "y[at[i]] = wide_load(x[i]).w;",
            ),
            (
                vec![F16],
                false,
                "enable f16;",
                "vec4<f16>",
                "f32",
                "y[at[i]] = vec4<f32>(x[i]).w;",
            ),
            (
                vec![F16],
                true,
                "alias",
                "u64",
                "f32",
                "y[at[i]] = wide_load_halves(x[i]).w;",
            ),
            (
                vec![F32, F32, F16],
                false,
                "enable f16;",
                "Pack",
                "f16",
                "y[at[i]] = f16(x[i].w);",
            ),
            (
                vec![F16, F32, F16],
                true,
                "enable f16;",
                "u64",
                "f16",
                "y[at[i]] = f16(wide_load_halves(x[i]).w);",
            ),
        ] {
            let text = store_as("test", SOURCE, &elements, wide).unwrap();
            assert!(text.starts_with(first), "{text}");
            for part in [
                format!("x: array<{x}>;"),
                format!("y: array<{y}>;"),
                line.to_owned(),
            ] {
                assert!(text.contains(&part), "{part} in {text}");
            }
            let functions = [
                text.contains("fn wide_load("),
                text.contains("fn wide_load_halves("),
            ];
            assert_eq!(functions, [x == "vec2<u64>", x == "u64"]);
        }
        assert_eq!(store_as("test", SOURCE, &[F32; 3], false).unwrap(), SOURCE);
    }

    #[test]
    fn what_cannot_hold_f16_is_refused() {
        let error = store_as("test", SOURCE, &[F32, F16], false).unwrap_err();
        assert!(
            error.to_string().contains("`at` is an array of u32"),
            "{error}"
        );
    }
}
