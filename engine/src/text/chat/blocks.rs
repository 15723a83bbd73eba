//! Blocks of `{% generation %}` in a text: what stands in the tag is put between two code points that are no characters, and
//! these tell where it stands.

use std::ops::Range;

/// Noncharacters, which Unicode keeps for use within programs.
pub(super) const OPEN: char = '\u{fdd0}';
pub(super) const CLOSE: char = '\u{fdd1}';

const NESTED: &str =
    "blocks of {% generation %} stand within one another in the chat template; end each before the next";

/// What `{% generation %}` writes: what stands in it, enclosed.
pub(super) fn enclosed(written: &str) -> String {
    format!("{OPEN}{written}{CLOSE}")
}

/// A text without the marks of generation, and what stood between them.
///
/// # Errors
/// Blocks stand within one another.
pub(super) fn taken(text: &str) -> Result<(String, Vec<Range<usize>>), String> {
    let (mut out, mut blocks, mut open) = (String::with_capacity(text.len()), Vec::new(), None);
    for part in text.split_inclusive([OPEN, CLOSE]) {
        let written = part.trim_end_matches([OPEN, CLOSE]);
        out.push_str(written);
        match (part[written.len()..].chars().next(), open.take()) {
            (Some(OPEN), None) => open = Some(out.len()),
            (Some(CLOSE), Some(begin)) => blocks.push(begin..out.len()),
            (None, None) => {}
            _ => return Err(NESTED.to_owned()),
        }
    }
    Ok((out, blocks))
}
