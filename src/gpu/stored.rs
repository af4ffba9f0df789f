//! The form in which the storage buffers of a kernel hold what it computes with, in f32.
//!
//! **f16.** A file says what it computes. Where a buffer of a dispatch holds f16, its loads and stores are converted, so that
//! arithmetic stays the same; each buffer has an element type of its own, and all of them mix.
//!
//! A type declared by `alias NAME = f32; // as stored in BUFFER` is that of the buffer's elements: for kernels that multiply
//! what they load as it lies.
//!
//! **Words of 64 bits**, for a CPU that plays a GPU. There each access to a buffer is a loop over the lanes, once for each
//! component: a `vec4<f32>` costs four such loops. As `vec2<u64>` the same sixteen bytes cost two, and a vec4 of f16, one u64,
//! costs one; taking the words apart is a few instructions for all lanes. A `mat2x4<f32>`, eight numbers, is one `vec4<u64>`.
//! Real GPUs move a vec4 at once, and many lack 64-bit integers; for them nothing changes.

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

const WIDE_EIGHT: &str = "\
fn wide_load_eight(words: vec4<u64>) -> mat2x4<f32> {
    let low = bitcast<vec4<f32>>(vec4<u32>(words));
    let high = bitcast<vec4<f32>>(vec4<u32>(words >> vec4(32u)));
    return mat2x4(low.x, high.x, low.y, high.y, low.z, high.z, low.w, high.w);
}
";

const WIDE_EIGHT_HALVES: &str = "\
fn wide_load_eight_halves(words: vec2<u64>) -> mat2x4<f32> {
    let low = vec2<u32>(words);
    let high = vec2<u32>(words >> vec2(32u));
    return mat2x4(
        vec4(unpack2x16float(low.x), unpack2x16float(high.x)),
        vec4(unpack2x16float(low.y), unpack2x16float(high.y)),
    );
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

/// Where no kernel stores elements of a type: a store would name a function that is nowhere.
const NO_STORE: &str = "eight_numbers_are_only_loaded";

/// The text in which binding k + 1 holds elements of type `elements[k]`, those beyond the end of the list f32, and where
/// `wide` every vec4 is moved in words of 64 bits.
///
/// # Errors
/// [`GpuError::Shader`] where a buffer that is to hold f16 is no array of f32, `vec4<f32>` or `mat2x4<f32>`, or where a
/// kernel stores less than a whole element of a converted buffer. Elements of eight numbers are only loaded.
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
    let mut text = restore(&following(source, &buffers), &buffers)?;
    for functions in [WIDE, WIDE_EIGHT, WIDE_HALVES, WIDE_EIGHT_HALVES] {
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

/// The text in which each type that follows a buffer is f16 where the buffer is an array of f16.
fn following(source: &str, buffers: &[Stored<'_>]) -> String {
    let is_half = |name| buffers.iter().any(|b| b.name == name && b.element == "f16");
    let lines = source.lines().map(|line| {
        let followed = line.split_once(" = f32; // as stored in ");
        match followed.filter(|&(alias, name)| alias.starts_with("alias ") && is_half(name)) {
            Some((alias, _)) => format!("{alias} = f16;\n"),
            None => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// How `buffer` is stored where that is not as the kernel says.
fn form<'a>(
    buffer: Declared<'a>,
    stored: Element,
    wide: bool,
) -> Result<Option<Stored<'a>>, String> {
    let (element, load, store) = match (stored, buffer.resolved, wide) {
        (Element::F32, "vec4<f32>", true) => ("vec2<u64>", "wide_load", "wide_store"),
        (Element::F32, "mat2x4<f32>", true) => ("vec4<u64>", "wide_load_eight", NO_STORE),
        (Element::F32, ..) => return Ok(None),
        (Element::F16, "f32", _) => ("f16", "f32", "f16"),
        (Element::F16, "vec4<f32>", false) => ("vec4<f16>", "vec4<f32>", "vec4<f16>"),
        (Element::F16, "vec4<f32>", true) => ("u64", "wide_load_halves", "wide_store_halves"),
        (Element::F16, "mat2x4<f32>", false) => ("mat2x4<f16>", "mat2x4<f32>", NO_STORE),
        (Element::F16, "mat2x4<f32>", true) => ("vec2<u64>", "wide_load_eight_halves", NO_STORE),
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
    fn eight_numbers_are_loaded_at_once_and_never_stored() {
        let source = "@group(0) @binding(1) var<storage, read> x: array<mat2x4<f32>>;\n\
            let word = x[i];\n";
        for (element, wide, stored, line) in [
            (F32, false, "mat2x4<f32>", "let word = x[i];"),
            (F32, true, "vec4<u64>", "let word = wide_load_eight(x[i]);"),
            (F16, false, "mat2x4<f16>", "let word = mat2x4<f32>(x[i]);"),
            (
                F16,
                true,
                "vec2<u64>",
                "let word = wide_load_eight_halves(x[i]);",
            ),
        ] {
            let text = store_as("test", source, &[element], wide).unwrap();
            assert!(text.contains(&format!("x: array<{stored}>;")), "{text}");
            assert!(text.contains(line), "{text}");
        }
        let text = store_as(
            "test",
            &source.replace("let word = x[i]", "x[i] = word"),
            &[F32],
            true,
        );
        assert!(
            text.unwrap()
                .contains("= eight_numbers_are_only_loaded(word)")
        );
    }

    #[test]
    fn a_type_follows_the_buffer_that_it_names() {
        let source = format!("alias Operand = f32; // as stored in y\n{SOURCE}");
        let stored = |elements: &[Element]| store_as("test", &source, elements, false).unwrap();
        assert!(stored(&[F32, F32, F16]).contains("alias Operand = f16;\n"));
        assert!(stored(&[F16]).contains("alias Operand = f32;"));
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
