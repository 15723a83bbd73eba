//! Sources of templates, rewritten where the engine reads them otherwise than jinja2.
//!
//! `{% generation %}`, Transformers' tag for what an assistant writes, becomes a filter of what stands in it, with variables of
//! its own. Lines end as jinja2 ends them, `{% raw %}` keeps the line break behind it, and texts in code have Python's
//! escapes.

/// The filter that `{% generation %}` becomes.
pub(super) const GENERATION: &str = "__generation__";

/// What begins a block of it.
const BEGIN: &str = "filter __generation__ %}{% with";

/// Rewrites a source. Every tag stays in its line.
pub(super) fn rewritten(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let read = match rest.as_bytes().get(1) {
            Some(b'#') => copy_through(&mut out, rest, "#}"),
            Some(b'%') if word(rest) == "raw" => raw(&mut out, rest),
            Some(b'%') => code(&mut out, rest, "%}"),
            Some(b'{') => code(&mut out, rest, "}}"),
            _ => copy_through(&mut out, rest, "{"),
        };
        rest = &rest[read..];
    }
    out.push_str(rest);
    out
}

/// Whether a source says itself what an assistant writes.
pub(super) fn marks_generation(source: &str) -> bool {
    rewritten(source).matches(BEGIN).count() > source.matches(BEGIN).count()
}

/// The first word of a tag.
fn word(tag: &str) -> &str {
    let inside = tag[2..].trim_start_matches(['-', '+']).trim_start();
    inside.find(|c: char| !c.is_alphanumeric() && c != '_').map_or(inside, |end| &inside[..end])
}

/// Copies up to and with `end`, or all; tells how many bytes that are.
fn copy_through(out: &mut String, rest: &str, end: &str) -> usize {
    let read = rest.find(end).map_or(rest.len(), |at| at + end.len());
    out.push_str(&rest[..read]);
    read
}

/// Copies `{% raw %}` and what stands up to `{% endraw %}`.
fn raw(out: &mut String, rest: &str) -> usize {
    let Some(open) = rest.find("%}") else { return copy_through(out, rest, "%}") };
    out.push_str(&rest[..open]);
    // jinja2 takes no line break away behind this tag.
    out.push_str(if rest[..open].ends_with(['-', '+']) { "" } else { "+" });
    let mut end = open;
    while let Some(at) = rest[end..].find("{%") {
        end += at;
        if word(&rest[end..]) == "endraw" {
            break;
        }
        end += 2;
    }
    end = rest[end..].find("%}").map_or(rest.len(), |at| end + at + 2);
    out.push_str(&rest[open..end]);
    end
}

/// Copies a tag or an expression up to and with `end`, its texts rewritten.
fn code(out: &mut String, rest: &str, end: &str) -> usize {
    let mut at = 2;
    out.push_str(&rest[..at]);
    if end == "%}" {
        let name = word(rest);
        let begin = name.as_ptr() as usize - rest.as_ptr() as usize;
        match name {
            "generation" => out.extend([&rest[at..begin], BEGIN]),
            "endgeneration" => out.extend([&rest[at..begin], "endwith %}{% endfilter"]),
            _ => out.push_str(&rest[at..begin + name.len()]),
        }
        at = begin + name.len();
    }
    let mut depth = 0usize;
    while let Some(next) = rest[at..].chars().next() {
        if depth == 0 && rest[at..].starts_with(end) {
            out.push_str(end);
            return at + end.len();
        }
        match next {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if matches!(next, '\'' | '"') {
            at += text(out, &rest[at..], next);
        } else {
            out.push(next);
            at += next.len_utf8();
        }
    }
    at
}

/// Copies a text between quotes; of its escapes those are rewritten that the engine does not know.
fn text(out: &mut String, rest: &str, quote: char) -> usize {
    let mut characters = rest.char_indices().skip(1).peekable();
    out.push(quote);
    while let Some((at, character)) = characters.next() {
        if character == quote {
            out.push(quote);
            return at + 1;
        }
        let escaped = if character == '\\' { characters.peek().copied() } else { None };
        let Some((at, escaped)) = escaped else {
            out.push(character);
            continue;
        };
        characters.next();
        let code =
            |length: usize| u32::from_str_radix(rest.get(at + 1..at + 1 + length)?, 16).ok().and_then(char::from_u32);
        match escaped {
            '\n' => {}
            'a' => out.push('\u{7}'),
            'v' => out.push('\u{b}'),
            '/' => out.push_str("\\\\/"),
            'U' if let Some(character) = code(8) => {
                out.push(character);
                characters.nth(7);
            }
            _ => out.extend(['\\', escaped]),
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_generation_become_a_filter_with_variables_of_its_own() {
        for (source, expected) in [
            (
                "{% generation %}a{% endgeneration %}",
                "{% filter __generation__ %}{% with %}a{% endwith %}{% endfilter %}",
            ),
            (
                "{%- generation -%}\n{%+ endgeneration +%}",
                "{%- filter __generation__ %}{% with -%}\n{%+ endwith %}{% endfilter +%}",
            ),
            ("{%generation%}{{ generation }}", "{%filter __generation__ %}{% with%}{{ generation }}"),
            ("{# {% generation %} #}{{ '{% generation %}' }}", "{# {% generation %} #}{{ '{% generation %}' }}"),
            ("{% raw %}{% generation %}{% endraw %}", "{% raw +%}{% generation %}{% endraw %}"),
            ("{% set generation = 1 %}", "{% set generation = 1 %}"),
            ("{{ {1: {}} ~ '}}' }}{%generation%}", "{{ {1: {}} ~ '}}' }}{%filter __generation__ %}{% with%}"),
            ("a { b {{{}}}", "a { b {{{}}}"),
        ] {
            assert_eq!(rewritten(source), expected);
        }
        assert!(marks_generation("{% for m in x %}{%- generation %}"));
        assert!(!marks_generation("{{ generation }}{% set generation = 1 %}{# {% generation %} #}"));
    }

    #[test]
    fn lines_and_escapes_are_pythons() {
        for (source, expected) in [
            ("a\r\nb\rc", "a\nb\nc"),
            (r"{{ 'a\/b\'\n\U0001F600' }}", "{{ 'a\\\\/b\\'\\n😀' }}"),
            ("{{ \"a\\\nb\\a\" }}", "{{ \"ab\u{7}\" }}"),
            (r"a\/b {# '\/ #}", r"a\/b {# '\/ #}"),
        ] {
            assert_eq!(rewritten(source), expected);
        }
    }

    #[test]
    fn what_does_not_end_stays_as_it_is() {
        for source in ["{{", "{%", "{#", "{{ 'a", "{% raw", "{% raw %}{%", "{{ \"\\", "{% generation"] {
            assert!(rewritten(source).starts_with(&source[..2]));
        }
    }
}
