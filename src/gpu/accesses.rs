//! Loads from storage buffers and stores to them in the text of a kernel, so that what is stored may have another form
//! than what the kernel computes with.
//!
//! A kernel reaches its buffers by `name[index]` alone and stores whole elements by `=`; no local variable that is indexed
//! has the name of a buffer. What is behind a pointer (`&name[index]`, for cooperative matrices) stays as it is stored. WGSL
//! converts nothing by itself: a load or a store that this step missed is a type error, never a number that is read wrongly.

/// A storage buffer as a kernel declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Declared<'a> {
    /// Its number, from 1 on.
    pub binding: usize,
    /// Its name.
    pub name: &'a str,
    /// The elements as they are written, `Pack`.
    pub element: &'a str,
    /// The type behind that name, `vec4<f32>`.
    pub resolved: &'a str,
}

/// The form in which a buffer is stored.
#[derive(Clone, Debug)]
pub(super) struct Stored<'a> {
    /// Its name.
    pub name: &'a str,
    /// The type of an element.
    pub element: &'a str,
    /// The function that gives what the kernel computes with from an element.
    pub load: &'a str,
    /// The function that gives an element.
    pub store: &'a str,
}

/// The buffer that `line` of `source` declares, if it declares one that is an array.
pub(super) fn declared<'a>(source: &'a str, line: &'a str) -> Option<Declared<'a>> {
    let rest = line.strip_prefix("@group(0) @binding(")?;
    let (binding, rest) = rest.split_once(") var<storage, ")?;
    let (name, array) = rest.split_once("> ")?.1.split_once(": ")?;
    let element = array.strip_prefix("array<")?.strip_suffix(">;")?;
    Some(Declared {
        binding: binding.parse().ok()?,
        name,
        element,
        resolved: resolve(source, element),
    })
}

/// `source` with every storage buffer declared read_write.
pub fn declared_writable(source: &str) -> String {
    const STORAGE: &str = "var<storage";
    let mut parts = source.split(STORAGE);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text += STORAGE;
        match part.split_once('>') {
            Some((access, rest)) if access.trim().is_empty() || is_read(access) => {
                text = text + ", read_write>" + rest;
            }
            _ => text += part,
        }
    }
    text
}

fn is_read(access: &str) -> bool {
    let access = access.trim().strip_prefix(',');
    access.is_some_and(|a| a.trim().trim_end_matches(',').trim_end() == "read")
}

/// The type behind an alias.
fn resolve<'a>(source: &'a str, name: &'a str) -> &'a str {
    let alias = format!("alias {name} = ");
    let mut lines = source.lines();
    lines
        .find_map(|line| line.strip_prefix(&alias)?.strip_suffix(';'))
        .unwrap_or(name)
}

/// `source` with the buffers in `stored` declared, loaded and stored in their form.
///
/// # Errors
/// What a kernel does with such a buffer that cannot be converted.
pub(super) fn restore(source: &str, stored: &[Stored<'_>]) -> Result<String, String> {
    let mut text = String::with_capacity(source.len());
    for line in source.lines() {
        let found = declared(source, line);
        let form = found.and_then(|found| stored.iter().find(|s| s.name == found.name));
        match (found, form) {
            (Some(found), Some(form)) => {
                let array = format!("array<{}>", found.element);
                text.push_str(&line.replace(&array, &format!("array<{}>", form.element)));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    let mut out = String::with_capacity(text.len());
    convert(&text, stored, &mut out)?;
    Ok(out)
}

/// Appends `code` to `out` with the loads and stores of `buffers` converted.
fn convert(code: &str, buffers: &[Stored<'_>], out: &mut String) -> Result<(), String> {
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let word = word_at(rest);
        let tail = &rest[word.len()..];
        let is_member = out.ends_with('.');
        let buffer = buffers.iter().find(|b| b.name == word && !is_member);
        let taken = match buffer.filter(|_| tail.starts_with('[')) {
            Some(buffer) => {
                rest = convert_access(buffer, tail, buffers, out)?;
                continue;
            }
            None if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            None if word.is_empty() => first.len_utf8(),
            None => word.len(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    Ok(())
}

/// Converts the access `[index]…` at the start of `tail` and gives what follows it.
fn convert_access<'a>(
    buffer: &Stored<'_>,
    tail: &'a str,
    buffers: &[Stored<'_>],
    out: &mut String,
) -> Result<&'a str, String> {
    let name = buffer.name;
    let end = closing(tail).ok_or_else(|| format!("`{name}[` is not closed"))?;
    let mut access = format!("{name}[");
    convert(&tail[1..end], buffers, &mut access)?;
    access.push(']');
    let rest = &tail[end + 1..];
    if out.ends_with('&') {
        out.push_str(&access);
        return Ok(rest);
    }
    let Some(value) = assigned(rest) else {
        if is_changed(rest) {
            return Err(format!(
                "of `{name}` only whole elements can be stored, by `=`"
            ));
        }
        out.push_str(&format!("{}({access})", buffer.load));
        return Ok(rest);
    };
    let stop = value
        .find(';')
        .ok_or_else(|| format!("a store to `{name}` has no end"))?;
    out.push_str(&format!("{access} = {}(", buffer.store));
    convert(value[..stop].trim(), buffers, out)?;
    out.push(')');
    Ok(&value[stop..])
}

/// What stands behind a `=`, if `rest` starts with one.
fn assigned(rest: &str) -> Option<&str> {
    let value = rest.trim_start().strip_prefix('=')?;
    (!value.starts_with('=')).then_some(value)
}

/// Whether an element is changed otherwise than by `=`: by `+=` and the like, or a component of it.
fn is_changed(rest: &str) -> bool {
    let rest = rest.trim_start();
    let component = match (rest.strip_prefix('.'), closing(rest)) {
        (Some(tail), _) => Some(&tail[word_at(tail).len()..]),
        (None, Some(end)) if rest.starts_with('[') => Some(&rest[end + 1..]),
        _ => None,
    };
    is_compound(rest) || component.is_some_and(|text| assigned(text).is_some() || is_compound(text))
}

/// Whether `text` starts with `+=`, `++` or the like.
fn is_compound(text: &str) -> bool {
    let text = text.trim_start();
    let operator = text.starts_with(['+', '-', '*', '/', '%', '&', '|', '^']);
    operator && (text[1..].starts_with('=') || ["++", "--"].contains(&&text[..2.min(text.len())]))
}

/// The identifier or number at the start of `text`.
fn word_at(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}

/// The position of the bracket that closes the one at the start of `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0i32;
    text.char_indices().find_map(|(at, c)| {
        depth += i32::from(matches!(c, '[' | '(')) - i32::from(matches!(c, ']' | ')'));
        (depth == 0).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "alias Pack = vec4<f32>;\n\
        @group(0) @binding(1) var<storage, read> x: array<Pack>;\n\
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;\n";

    fn stored(name: &'static str) -> Stored<'static> {
        Stored {
            name,
            element: "Dense",
            load: "open",
            store: "close",
        }
    }

    fn body(names: &[&'static str], code: &str) -> Result<String, String> {
        let stored: Vec<_> = names.iter().map(|&name| stored(name)).collect();
        let text = restore(&format!("{HEAD}{code}\n"), &stored)?;
        Ok(text.lines().skip(3).collect())
    }

    #[test]
    fn loads_and_stores_are_converted_and_nothing_else_is() {
        for (names, code, expected) in [
            (
                vec!["x"],
                "let a = x[i] + y[i];",
                "let a = open(x[i]) + y[i];",
            ),
            (
                vec!["x"],
                "p.x[i] = group.x; // x[i]",
                "p.x[i] = group.x; // x[i]",
            ),
            (
                vec!["x", "y"],
                "y[n * (k[0] + 1u)] = f(y[at[2]], x[i].w) * 2.0;",
                "y[n * (k[0] + 1u)] = close(f(open(y[at[2]]), open(x[i]).w) * 2.0);",
            ),
            (vec!["y"], "if y[i] == 0.0 {}", "if open(y[i]) == 0.0 {}"),
            (
                vec!["y"],
                "let d = y[i] - -1.0;",
                "let d = open(y[i]) - -1.0;",
            ),
            (
                vec!["x"],
                "m = load(&x[u32(x[i].x)], 8u);",
                "m = load(&x[u32(open(x[i]).x)], 8u);",
            ),
            (
                vec!["x"],
                "v = x[u32(x[i].x)][k];",
                "v = open(x[u32(open(x[i]).x)])[k];",
            ),
        ] {
            assert_eq!(body(&names, code).unwrap(), expected);
        }
    }

    #[test]
    fn declarations_change_by_name() {
        let found = declared(HEAD, HEAD.lines().nth(1).unwrap()).unwrap();
        assert_eq!(
            (found.binding, found.name, found.element, found.resolved),
            (1, "x", "Pack", "vec4<f32>")
        );
        let text = restore(HEAD, &[stored("x")]).unwrap();
        assert!(text.contains("x: array<Dense>;") && text.contains("y: array<f32>;"));
        assert_eq!(restore(HEAD, &[]).unwrap(), HEAD);
    }

    #[test]
    fn buffers_that_are_read_are_declared_writable() {
        let text = declared_writable(HEAD);
        assert!(text.contains("var<storage, read_write> x: array<Pack>;"));
        assert_eq!(text.matches("var<storage, read_write>").count(), 2);
        assert_eq!(declared_writable(&text), text);
        for declaration in ["<storage>", "<storage,read>", "<storage , read,>"] {
            let text = declared_writable(&format!("@binding(1) var{declaration} x: array<f32>;"));
            assert!(text.contains("var<storage, read_write> x:"), "{text}");
        }
        let others = "var<workgroup> tile: array<f32, 64>; var<uniform> params: Params;";
        assert_eq!(declared_writable(others), others);
    }

    #[test]
    fn what_cannot_be_converted_is_refused() {
        for (name, code, reason) in [
            ("y", "y[i] += 1.0;", "only whole elements"),
            ("x", "x[i].x = 1.0;", "only whole elements"),
            ("x", "x[i][k] -= 1.0;", "only whole elements"),
            ("x", "x[i", "not closed"),
            ("x", "x[i] = 1.0", "no end"),
        ] {
            let error = body(&[name], code).unwrap_err();
            assert!(error.contains(reason), "{error} should say {reason}");
        }
    }
}
