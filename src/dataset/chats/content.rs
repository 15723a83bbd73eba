//! What a message says: a text, or a list of parts of which only texts are trained on.

use super::findings::Findings;
use super::parse::{any_text, must_be};
use super::path::Path;
use super::remarks::Remark;
use crate::dataset::row::MISSING;
use crate::dataset::tree::Tree;
use crate::domain::clip::clipped;

/// Kinds of parts that are no texts, and what is said of them.
const NOT_READ: [(&[&str], &str); 5] = [
    (&["image", "image_url", "input_image", "image_file"], "images in chats are not read; leave the part out"),
    (&["audio", "input_audio", "audio_url"], "audio in chats is not read; leave the part out"),
    (&["video", "video_url"], "videos in chats are not read; leave the part out"),
    (&["file", "input_file", "document"], "files in chats are not read; leave the part out"),
    (&["refusal"], "refusals are trained as texts; write {\"type\": \"text\", \"text\": …}"),
];

/// The text of `tree`, which may be blank; None where something is wrong with it, which is among the findings then.
pub(super) fn read(tree: &Tree, at: &Path<'_>, findings: &mut Findings) -> Option<String> {
    let Tree::List(parts) = tree else {
        let text = match tree {
            Tree::Text(_) => any_text(tree),
            other => Err(must_be("a string or a list of parts", other)),
        };
        return findings.keep(at, text);
    };
    if parts.is_empty() {
        return findings.refuse(at, "is an empty list");
    }
    let mut texts = Vec::new();
    for (number, tree) in parts.iter().enumerate() {
        texts.extend(part(tree, &at.item(number), findings));
    }
    if parts.len() > 1 {
        findings.remark(Remark::Parts);
    }
    (texts.len() == parts.len()).then(|| texts.join("\n"))
}

fn part(tree: &Tree, at: &Path<'_>, findings: &mut Findings) -> Option<String> {
    let Some(part) = tree.as_object() else {
        return findings.refuse(at, must_be("an object with type and text", tree));
    };
    let kind = at.key("type");
    match part.get("type") {
        None => findings.refuse(kind, "is missing; it must be \"text\""),
        Some(Tree::Text(word)) if word == "text" => {
            let text = part.get("text").map_or_else(|| Err(MISSING.to_owned()), any_text);
            findings.keep(at.key("text"), text)
        }
        Some(Tree::Text(word)) => {
            let what = match NOT_READ.into_iter().find(|(words, _)| words.contains(&word.as_str())) {
                Some((_, what)) => format!("is \"{word}\"; {what}"),
                None => format!("is \"{}\", but must be \"text\"", clipped(word)),
            };
            findings.refuse(kind, what)
        }
        Some(other) => findings.refuse(kind, must_be("\"text\"", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Findings, Path, Tree, read};
    use crate::dataset::chats::findings::Remarks;
    use crate::dataset::entries::Entry;

    fn content(json: &str) -> Result<String, Vec<String>> {
        let mut findings = Findings::new(1);
        let read = read(&Tree::parse(json).unwrap(), &Path::field("content"), &mut findings);
        match findings.entry(read, &Remarks::default()) {
            Entry::Good(text) => Ok(text),
            Entry::Faulty(faults) => {
                Err(faults.into_iter().map(|fault| format!("{} {}", fault.field.unwrap(), fault.message)).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn texts_of_parts_are_joined() {
        assert_eq!(content("\" a \"").unwrap(), " a ");
        let parts =
            r#"[{"type":"text","text":"a"},{"text":"","type":"text","cache_control":{}},{"type":"text","text":"b"}]"#;
        assert_eq!(content(parts).unwrap(), "a\n\nb");
    }

    #[test]
    fn each_part_that_is_no_text_is_told() {
        let parts = r#"["a", {}, {"type": "image_url"}, {"type": "input_audio"}, {"type": "text"}, {"type": "text", "text": 3},
            {"type": "thought"}, {"type": 1}, {"type": "refusal", "refusal": "no"}, {"type": "text", "text": "\u0000"}]"#;
        assert_eq!(
            content(parts).unwrap_err(),
            [
                "content[0] must be an object with type and text, not a string",
                "content[1].type is missing; it must be \"text\"",
                "content[2].type is \"image_url\"; images in chats are not read; leave the part out",
                "content[3].type is \"input_audio\"; audio in chats is not read; leave the part out",
                "content[4].text is missing",
                "content[5].text must be a string, not a number",
                "content[6].type is \"thought\", but must be \"text\"",
                "content[7].type must be \"text\", not a number",
                "content[8].type is \"refusal\"; refusals are trained as texts; write {\"type\": \"text\", \"text\": …}",
                "content[9].text holds a NUL character, which no text has; the file may be damaged, or not in UTF-8",
            ]
        );
        assert_eq!(content("[]").unwrap_err(), ["content is an empty list"]);
        assert_eq!(content("3").unwrap_err(), ["content must be a string or a list of parts, not a number"]);
    }
}
