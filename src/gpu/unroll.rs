//! Unrolls marked loops of a kernel, so that a register tile is written as loops and compiled as straight lines.
//!
//! A line `// unroll` directly above `for (var i: u32 = A; i < B; i++) {` makes the loop a sequence of blocks, one for
//! each value of i, with the value in place of the name. A and B may use whole numbers, the file's
//! `const NAME: u32 = …;` lines, the counters of marked loops around it, `+ - * / %` and parentheses. The file stays
//! legal WGSL without this step: it only takes away the doubt whether a driver unrolls, and whether it does so before
//! it decides that an array indexed by the counter cannot live in registers.
//!
//! In the blocks, index expressions and groups in parentheses that have become constant are replaced by their values:
//! naga 30 takes quadratic time in the expressions of a function, so that a tile of 2304 multiply-adds takes 4.2 s
//! to parse unfolded.
//!
//! A file uses line comments only, and a marked loop ends in a line with nothing but its closing brace.

use std::collections::BTreeMap;

use super::GpuError;

const MARK: &str = "// unroll";

/// Text beyond this is a mistake in a constant, not a kernel: drivers take minutes over it.
const MAX_BYTES: usize = 4 << 20;

/// The text with every marked loop unrolled.
///
/// # Errors
/// [`GpuError::Shader`] where a marked loop has another form, a bound cannot be computed, the body leaves the loop by
/// `break` or `continue`, or the result is absurdly long.
pub(super) fn unroll(kernel: &str, source: &str) -> Result<String, GpuError> {
    let lines: Vec<String> = source.lines().map(str::to_owned).collect();
    let mut text = String::with_capacity(source.len());
    expand(&lines, &constants_of(source), false, &mut text).map_err(|reason| GpuError::Shader {
        kernel: kernel.to_owned(),
        reason,
    })?;
    Ok(text)
}

type Scope = BTreeMap<String, u32>;

/// The values of the top-level `const NAME: u32 = …;` lines. One that cannot be computed here is left out: it is an
/// error only where a bound needs it.
fn constants_of(source: &str) -> Scope {
    let mut scope = Scope::new();
    for line in source.lines() {
        let declaration = line
            .strip_prefix("const ")
            .and_then(|rest| code(rest).trim_end().strip_suffix(';'))
            .and_then(|rest| rest.split_once(": u32 = "));
        let Some((name, value)) = declaration else {
            continue;
        };
        if let Ok(value) = evaluate(value, &scope) {
            scope.insert(name.to_owned(), value);
        }
    }
    scope
}

fn expand(lines: &[String], scope: &Scope, in_block: bool, out: &mut String) -> Result<(), String> {
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() != MARK {
            match in_block {
                true => out.push_str(&fold(&lines[at], scope)),
                false => out.push_str(&lines[at]),
            }
            out.push('\n');
            at += 1;
            continue;
        }
        let head = lines.get(at + 1).map_or("", |line| line.trim());
        let (name, range) = parse_head(head, scope)?;
        let end = closing_line(lines, at + 1)?;
        let body = &lines[at + 2..end];
        check_exits(head, body)?;
        for value in range {
            let block: Vec<String> = body
                .iter()
                .filter(|line| !code(line).trim().is_empty() || line.trim() == MARK)
                .map(|line| substitute(line, name, value))
                .collect();
            out.push_str("{\n");
            expand(&block, scope, true, out)?;
            out.push_str("}\n");
            if out.len() > MAX_BYTES {
                return Err(format!(
                    "unrolling `{head}` gives more than {MAX_BYTES} bytes"
                ));
            }
        }
        at = end + 1;
    }
    Ok(())
}

/// The line without its comment.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

fn parse_head<'a>(head: &'a str, scope: &Scope) -> Result<(&'a str, std::ops::Range<u32>), String> {
    let parts = || {
        let inner = head.strip_prefix("for (var ")?.strip_suffix("++) {")?;
        let (name, rest) = inner.split_once(": u32 = ")?;
        let (first, rest) = rest.split_once("; ")?;
        let rest = rest.strip_prefix(name)?.strip_prefix(" < ")?;
        let (end, counter) = rest.split_once("; ")?;
        (counter == name).then_some((name, first, end))
    };
    let (name, first, end) = parts().ok_or_else(|| {
        format!("`{MARK}` must stand above `for (var i: u32 = A; i < B; i++) {{`, found `{head}`")
    })?;
    let bound = |text| evaluate(text, scope).map_err(|reason| format!("`{head}`: {reason}"));
    Ok((name, bound(first)?..bound(end)?))
}

/// The line of the brace that closes the loop whose head is `lines[head]`.
fn closing_line(lines: &[String], head: usize) -> Result<usize, String> {
    let mut depth = 0i32;
    for (at, line) in lines.iter().enumerate().skip(head) {
        for c in code(line).chars() {
            depth += i32::from(c == '{') - i32::from(c == '}');
        }
        if depth == 0 {
            return match code(line).trim() {
                "}" => Ok(at),
                other => Err(format!(
                    "`{}` must end in a line with only its brace, found `{other}`",
                    lines[head].trim()
                )),
            };
        }
    }
    Err(format!("`{}` has no closing brace", lines[head].trim()))
}

/// A repeated block has nothing to break from, so a `break` would leave the loop around it instead.
fn check_exits(head: &str, body: &[String]) -> Result<(), String> {
    for line in body {
        let exit = words(code(line)).find(|(word, _)| matches!(*word, "break" | "continue"));
        if let Some((word, _)) = exit {
            return Err(format!(
                "`{head}` is unrolled, so it may not contain `{word}`"
            ));
        }
    }
    Ok(())
}

/// The identifiers, numbers and runs of other characters of a line, each with whether it follows a dot.
fn words(line: &str) -> impl Iterator<Item = (&str, bool)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = line;
    let mut after_dot = false;
    std::iter::from_fn(move || {
        let kind = is_word(rest.chars().next()?);
        let end = rest.find(|c| is_word(c) != kind).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        let found = (word, after_dot);
        after_dot = word.ends_with('.');
        rest = tail;
        Some(found)
    })
}

/// The line with `value` in place of the identifier `name` (not of a member of that name).
fn substitute(line: &str, name: &str, value: u32) -> String {
    if line.trim() == MARK {
        return line.to_owned();
    }
    let mut text = String::with_capacity(line.len());
    for (word, member) in words(code(line).trim()) {
        match word == name && !member {
            true => text.push_str(&format!("{value}u")),
            false => text.push_str(word),
        }
    }
    text
}

/// The line with constant `[…]` and `(…)` replaced by their values. A `(` that follows a name is a call and stays.
fn fold(line: &str, scope: &Scope) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['[', '(']) {
        let (before, tail) = rest.split_at(at);
        text.push_str(before);
        let Some(end) = closing_bracket(tail) else {
            // It is closed on another line: what follows may still hold whole groups.
            text.push_str(&tail[..1]);
            rest = &tail[1..];
            continue;
        };
        let inner = fold(&tail[1..end], scope);
        let called = text.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '>'));
        let value = evaluate(&inner, scope).ok();
        match (&tail[..1], value) {
            ("[", Some(value)) => text.push_str(&format!("[{value}u]")),
            ("(", Some(value)) if !called && is_u32(&inner) => text.push_str(&format!("{value}u")),
            (open, _) => {
                text.push_str(open);
                text.push_str(&inner);
                text.push_str(&tail[end..=end]);
            }
        }
        rest = &tail[end + 1..];
    }
    text.push_str(rest);
    text
}

/// Whether a constant expression has the type u32 rather than that of a number without suffix.
fn is_u32(text: &str) -> bool {
    words(text).any(|(word, _)| {
        word.ends_with('u') || word.starts_with(|c: char| c.is_alphabetic() || c == '_')
    })
}

/// The position of the bracket that closes the one at the start of `text`, if it is on the same line.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut depth = 0i32;
    text.char_indices().find_map(|(at, c)| {
        depth += i32::from(matches!(c, '[' | '(')) - i32::from(matches!(c, ']' | ')'));
        (depth == 0).then_some(at)
    })
}

/// The value of an expression of whole numbers and names.
fn evaluate(text: &str, scope: &Scope) -> Result<u32, String> {
    let mut parser = Parser { rest: text, scope };
    let value = parser.sum()?;
    match parser.peek() {
        None => Ok(value),
        Some(c) => Err(format!("`{c}` was not expected in `{text}`")),
    }
}

struct Parser<'a> {
    rest: &'a str,
    scope: &'a Scope,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn skip(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.rest = &self.rest[c.len_utf8()..];
        }
        found
    }

    fn sum(&mut self) -> Result<u32, String> {
        let mut value = self.product()?;
        loop {
            let result = match self.peek() {
                Some('+') if self.skip('+') => value.checked_add(self.product()?),
                Some('-') if self.skip('-') => value.checked_sub(self.product()?),
                _ => return Ok(value),
            };
            value = result.ok_or("the value leaves the range of u32")?;
        }
    }

    fn product(&mut self) -> Result<u32, String> {
        let mut value = self.atom()?;
        loop {
            let result = match self.peek() {
                Some('*') if self.skip('*') => value.checked_mul(self.atom()?),
                Some('/') if self.skip('/') => value.checked_div(self.atom()?),
                Some('%') if self.skip('%') => value.checked_rem(self.atom()?),
                _ => return Ok(value),
            };
            value = result.ok_or("the value leaves the range of u32")?;
        }
    }

    fn atom(&mut self) -> Result<u32, String> {
        if self.skip('(') {
            let value = self.sum()?;
            return match self.skip(')') {
                true => Ok(value),
                false => Err("a closing parenthesis is missing".into()),
            };
        }
        let _ = self.peek();
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        let (word, tail) = self.rest.split_at(end);
        self.rest = tail;
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            let digits = word.strip_suffix('u').unwrap_or(word);
            return digits
                .parse()
                .map_err(|_| format!("`{word}` is no whole number"));
        }
        self.scope
            .get(word)
            .copied()
            .ok_or_else(|| format!("`{word}` is no constant of the file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The unrolled text without spaces and line ends.
    fn packed(source: &str) -> Result<String, String> {
        match unroll("test", source) {
            Ok(text) => Ok(text.split_whitespace().collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_marked_loop_becomes_blocks_with_the_value_in_place_of_the_name() {
        let source = "// unroll\nfor (var i: u32 = 1u; i < 3u; i++) {\n    a[i] = v.i + pi * f(i); // i\n}\n";
        assert_eq!(
            packed(source).unwrap(),
            "{a[1u]=v.i+pi*f(1u);}{a[2u]=v.i+pi*f(2u);}"
        );
    }

    #[test]
    fn bounds_use_constants_arithmetic_and_outer_counters() {
        let source = "const TX: u32 = 4u; // wide\nconst TILE: u32 = (TX - 1u) * 2u / 3u % 5u;\n\
            // unroll\nfor (var i: u32 = TILE; i < TX; i++) {\n// unroll\nfor (var j: u32 = i; j < 2 + 2; j++) {\nf(i, j);\n}\n}\n";
        let text = packed(source).unwrap();
        assert!(
            text.ends_with("%5u;{{f(2u,2u);}{f(2u,3u);}}{{f(3u,3u);}}"),
            "{text}"
        );
    }

    #[test]
    fn constant_indices_and_groups_are_folded() {
        let source = "const N: u32 = 3u;\n// unroll\nfor (var i: u32 = 1u; i < 2u; i++) {\n\
            a[i * N + 1u][v[i]] = f(i, (i + N) * k) * (2) + g((i),\n(i - 2u) * u32(i)) + s[\n(i)];\n}\n";
        let expected = "a[4u][v[1u]]=f(1u,4u*k)*(2)+g(1u,(1u-2u)*u32(1u))+s[1u];}";
        assert!(
            packed(source).unwrap().ends_with(expected),
            "{}",
            packed(source).unwrap()
        );
    }

    #[test]
    fn an_empty_range_leaves_nothing_and_unmarked_loops_stay() {
        let marked = "// unroll\nfor (var i: u32 = 2u; i < 1u; i++) {\nf(i);\n}\n";
        assert_eq!(packed(marked).unwrap(), "");
        let plain = "for (var i: u32 = 0u; i < 2u; i++) {\n    break;\n}\n";
        assert_eq!(unroll("test", plain).unwrap(), plain);
    }

    #[test]
    fn what_cannot_be_unrolled_is_refused_with_its_reason() {
        let body = |head: &str, body: &str| format!("// unroll\n{head}\n{body}\n}}\n");
        let good = "for (var i: u32 = 0u; i < 2u; i++) {";
        for (source, reason) in [
            (body(good, "if a { break; }"), "may not contain `break`"),
            (
                body(good, "if a { continue; }"),
                "may not contain `continue`",
            ),
            (body(good, "if a {"), "no closing brace"),
            (
                body("for (var i = 0u; i < 2u; i++) {", ""),
                "must stand above",
            ),
            (
                body("for (var i: u32 = 0u; i < 2u; j++) {", ""),
                "must stand above",
            ),
            (
                body("for (var i: u32 = 0u; i < n; i++) {", ""),
                "`n` is no constant",
            ),
            (
                body("for (var i: u32 = 1u - 2u; i < 2u; i++) {", ""),
                "range of u32",
            ),
            (
                body("for (var i: u32 = 0u; i < 2u / 0u; i++) {", ""),
                "range of u32",
            ),
            (
                body("for (var i: u32 = 0u; i < (2u; i++) {", ""),
                "parenthesis",
            ),
            (
                body("for (var i: u32 = 0u; i < 4000000000u; i++) {", "f(i);"),
                "more than",
            ),
        ] {
            let error = packed(&source).unwrap_err();
            assert!(error.contains(reason), "{error} should say {reason}");
        }
        assert!(
            packed("// unroll\n")
                .unwrap_err()
                .contains("must stand above")
        );
    }
}
