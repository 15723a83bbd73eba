//! Words of strangers in Markdown (`CommonMark` 0.31) and in the YAML above it: shown as they are, and never markup.

use std::fmt::Write;

/// A text as a code span: nothing within one is markup or HTML. What would end its line, or turn the direction of what
/// follows, is shown as an escape.
pub(super) fn code(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns_direction(c) || matches!(c, '\u{2028}' | '\u{2029}') {
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    let fence = "`".repeat(longest_run(&shown) + 1);
    // One space at either end belongs to the fence, unless there is nothing but spaces.
    let needs_pad = shown.starts_with(['`', ' ']) || shown.ends_with(['`', ' ']);
    let pad = if needs_pad && !shown.trim_matches(' ').is_empty() { " " } else { "" };
    format!("{fence}{pad}{shown}{pad}{fence}")
}

/// Marks, embeddings and isolates of the Unicode bidirectional algorithm (UAX 9).
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// A text as a block of code that nothing in it can end.
pub(super) fn block(language: &str, text: &str) -> String {
    let fence = "`".repeat(longest_run(text).max(2) + 1);
    format!("{fence}{language}\n{text}\n{fence}")
}

/// A text as a YAML scalar: JSON's strings are YAML's in double quotes (YAML 1.2, 1.3).
pub(super) fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}
