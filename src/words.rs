//! Words that several messages share.

/// A number of things: `1 case`, `2 cases`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// An extent D,H,W as flags take it.
pub(crate) fn extent(extent: [usize; 3]) -> String {
    extent.map(|n| n.to_string()).join(",")
}
