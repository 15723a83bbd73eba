//! Texts as words.

/// Runs of letters and digits, in lower case: what rouge-score's own tokenizer takes of texts in ASCII, and of every other
/// script the same.
pub(super) fn plain(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The words and marks of `mteval-v13a`, which sacrebleu takes unless told otherwise.
pub(super) fn marked(text: &str) -> Vec<String> {
    let text = text.trim_end().replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")]
        .into_iter()
        .fold(text, |text, (escaped, plain)| text.replace(escaped, plain));
    let apart: String = format!(" {text} ").chars().fold(String::new(), |mut apart, c| {
        if is_mark(c) {
            apart.extend([' ', c, ' ']);
        } else {
            apart.push(c);
        }
        apart
    });
    let is_stop = |c: char| matches!(c, '.' | ',');
    let is_digit = |c: char| c.is_ascii_digit();
    let apart = between(&apart, |a, b| !is_digit(a) && is_stop(b), |a, b| [a, ' ', b, ' ']);
    let apart = between(&apart, |a, b| is_stop(a) && !is_digit(b), |a, b| [' ', a, ' ', b]);
    let apart = between(&apart, |a, b| is_digit(a) && b == '-', |a, b| [a, ' ', b, ' ']);
    apart.split_whitespace().map(str::to_owned).collect()
}

/// Marks of ASCII but those that stand in numbers and words: the apostrophe, the comma, the hyphen and the point.
fn is_mark(c: char) -> bool {
    matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/')
}

/// The text with each pair of characters that `is_one` says yes to written otherwise; pairs do not overlap.
fn between(text: &str, is_one: impl Fn(char, char) -> bool, written: impl Fn(char, char) -> [char; 4]) -> String {
    let (mut out, mut characters) = (String::new(), text.chars().peekable());
    while let Some(a) = characters.next() {
        match characters.next_if(|&b| is_one(a, b)) {
            Some(b) => out.extend(written(a, b)),
            None => out.push(a),
        }
    }
    out
}
