//! Under which keys a list of messages has what, and what it calls those who speak.

use super::parse::unpacked;
use crate::dataset::tree::Tree;
use crate::domain::chat::{ROLES, Role};
use crate::domain::clip::clipped;

/// How the messages of a file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataset) struct Dialect {
    /// The keys of who speaks and of what is said.
    pub(super) speaker: &'static str,
    pub(super) text: &'static str,
    /// Whether speakers have the names that collections of other services' conversations give them.
    names: bool,
}

/// Who speaks, in any dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    Role(Role),
    /// A function's answer, as OpenAI's first models had it.
    Function,
    /// The assistant, whose text is a call of tools.
    Call,
}

/// The keys of OpenAI's format, and those of `ShareGPT`.
const SPEAKERS: [&str; 2] = ["role", "from"];
const TEXTS: [&str; 2] = ["content", "value"];

/// Whether a value is a list of messages, or one, be it within a string.
pub(in crate::dataset) fn are_messages(tree: &Tree) -> bool {
    let Ok(unpacked) = unpacked(tree) else { return false };
    match unpacked.as_list().map_or(Some(&*unpacked), <[Tree]>::first) {
        Some(first) => first.as_object().is_some_and(|first| SPEAKERS.iter().any(|key| first.get(key).is_some())),
        // No text is meant by an empty list, but one may be in a string.
        None => tree.as_list().is_some(),
    }
}

/// What else those who speak are called.
const OTHER_NAMES: [(&str, Role); 16] = [
    ("human", Role::User),
    ("customer", Role::User),
    ("prompter", Role::User),
    ("gpt", Role::Assistant),
    ("chatgpt", Role::Assistant),
    ("bot", Role::Assistant),
    ("chatbot", Role::Assistant),
    ("model", Role::Assistant),
    ("ai", Role::Assistant),
    ("agent", Role::Assistant),
    ("bing", Role::Assistant),
    ("bard", Role::Assistant),
    ("tool_response", Role::Tool),
    ("function_response", Role::Tool),
    ("observation", Role::Tool),
    ("ipython", Role::Tool),
];

impl Dialect {
    /// The one in which most of these lists are written, each by its first message.
    pub(in crate::dataset) fn of<'a>(lists: impl Iterator<Item = &'a Tree>) -> Self {
        let (mut all, mut from, mut value) = (0, 0, 0);
        for list in lists {
            let Ok(list) = unpacked(list) else { continue };
            let first = list.as_list().map_or(Some(&*list), <[Tree]>::first);
            let Some(first) = first.and_then(Tree::as_object) else { continue };
            let has = |one: &str, other: &str| usize::from(first.get(one).is_some() && first.get(other).is_none());
            all += 1;
            from += has(SPEAKERS[1], SPEAKERS[0]);
            value += has(TEXTS[1], TEXTS[0]);
        }
        let (is_from, is_value) = (2 * from > all, 2 * value > all);
        Self { speaker: SPEAKERS[usize::from(is_from)], text: TEXTS[usize::from(is_value)], names: is_from }
    }

    /// The same for lists in which people may be called `human` and `gpt`, whatever the keys are.
    pub(in crate::dataset) fn named(self) -> Self {
        Self { names: true, ..self }
    }

    /// Whether the assistant speaks first in a list of messages, or in one message.
    pub(in crate::dataset) fn is_answer(self, tree: &Tree) -> bool {
        let Ok(tree) = unpacked(tree) else { return false };
        let first = tree.as_list().map_or(Some(&*tree), <[Tree]>::first).and_then(Tree::as_object);
        let word = first.and_then(|message| message.get(self.speaker)).and_then(Tree::as_text);
        matches!(word.map(|word| self.speaker(word)), Some(Ok(Speaker::Role(Role::Assistant) | Speaker::Call)))
    }

    /// Whether it is `ShareGPT`'s.
    pub(in crate::dataset) fn is_sharegpt(self) -> bool {
        self.speaker == SPEAKERS[1]
    }

    /// Its keys, as a note has them.
    pub(in crate::dataset) fn keys(self) -> String {
        format!("{} and {}", self.speaker, self.text)
    }

    /// Who is called so.
    ///
    /// # Errors
    /// Nobody; in words for the file's owner.
    pub(super) fn speaker(self, word: &str) -> Result<Speaker, String> {
        let other = |word: &str| OTHER_NAMES.into_iter().find(|(name, _)| *name == word).map(|(_, role)| role);
        if let Some(role) = Role::parse(word) {
            return Ok(Speaker::Role(role));
        }
        match word {
            "function" if !self.names => return Ok(Speaker::Function),
            "function" => return Ok(Speaker::Role(Role::Tool)),
            "function_call" | "tool_call" if self.names => return Ok(Speaker::Call),
            word if self.names => {
                if let Some(role) = other(word) {
                    return Ok(Speaker::Role(role));
                }
            }
            _ => {}
        }
        let lower = word.trim().to_lowercase();
        let meant = Role::parse(&lower).or_else(|| other(&lower));
        let hint = meant.map(|role| format!("; write \"{}\"", role.as_str())).unwrap_or_default();
        let more = if self.names { "\"human\", \"gpt\", \"function_call\", " } else { "" };
        let roles = ROLES.map(|role| format!("\"{}\"", role.as_str())).join(", ");
        Err(format!("is \"{}\", but must be one of {more}{roles}{hint}", clipped(word)))
    }

    /// What must stand under its key of who speaks.
    pub(super) fn speakers(self) -> &'static str {
        if self.names {
            "say who speaks, such as \"human\" or \"gpt\""
        } else {
            "say who speaks, such as \"user\" or \"assistant\""
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Role, Speaker, Tree, are_messages};

    const OPENAI: Dialect = Dialect { speaker: "role", text: "content", names: false };

    fn of(lists: &[&str]) -> Dialect {
        let lists: Vec<Tree> = lists.iter().map(|list| Tree::parse(list).unwrap()).collect();
        Dialect::of(lists.iter())
    }

    #[test]
    fn most_lists_say_how_all_are_written() {
        let (openai, sharegpt) = (r#"[{"role":"user","content":"a"}]"#, r#"[{"from":"human","value":"a"}]"#);
        assert_eq!(of(&[openai, sharegpt, openai]), OPENAI);
        assert_eq!(of(&["[]", "3", r#"["a"]"#]), OPENAI);
        let found = of(&[sharegpt, "[]", sharegpt, openai]);
        assert_eq!((found.keys().as_str(), found.is_sharegpt()), ("from and value", true));
        let quoted = Tree::Text(sharegpt.to_owned());
        assert!(Dialect::of([quoted].iter()).is_sharegpt());
        assert_eq!(of(&[r#"{"role":"user","value":"a"}"#]).keys(), "role and value");
    }

    #[test]
    fn speakers_are_known_by_the_names_of_their_dialect() {
        let names = OPENAI.named();
        for (dialect, word, expected) in [
            (OPENAI, "developer", Speaker::Role(Role::Developer)),
            (OPENAI, "function", Speaker::Function),
            (names, "gpt", Speaker::Role(Role::Assistant)),
            (names, "user", Speaker::Role(Role::User)),
            (names, "observation", Speaker::Role(Role::Tool)),
            (names, "function_call", Speaker::Call),
        ] {
            assert_eq!(dialect.speaker(word), Ok(expected));
        }
        let roles = "\"system\", \"developer\", \"user\", \"assistant\", \"tool\"";
        for (word, hint) in
            [("bot", "; write \"assistant\""), ("human", "; write \"user\""), (" User", "; write \"user\""), ("me", "")]
        {
            let expected = format!("is \"{word}\", but must be one of {roles}{hint}");
            assert_eq!(OPENAI.speaker(word), Err(expected));
        }
        assert!(names.speaker("me").unwrap_err().contains("one of \"human\", \"gpt\", \"function_call\", \"system\""));
    }

    #[test]
    fn messages_are_told_from_other_lists_and_texts() {
        let text = |text: &str| Tree::Text(text.to_owned());
        let tree = |json: &str| Tree::parse(json).unwrap();
        let (list, one) = (r#"[{"role":"assistant","content":"a"}]"#, r#"{"from":"gpt","value":"a"}"#);
        for messages in [tree(list), text(list), tree(one), tree("[]")] {
            assert!(are_messages(&messages), "{messages}");
        }
        for other in
            [text("[1, 2]"), text("[INST] a"), text(r#"{"answer": 3}"#), tree(r#"["a"]"#), text("[]"), tree("3")]
        {
            assert!(!are_messages(&other), "{other}");
        }
        assert!(OPENAI.is_answer(&tree(list)) && OPENAI.is_answer(&text(list)) && !OPENAI.is_answer(&tree(one)));
        assert!(!OPENAI.is_answer(&tree(r#"[{"role":"user"},{"role":"assistant"}]"#)) && !OPENAI.is_answer(&tree("3")));
    }
}
