//! What a message may have besides who speaks, what is said and what is called: a weight, what was thought, and keys of others.

use super::findings::Findings;
use super::parse::{must_be, text};
use super::path::Path;
use crate::dataset::tree::{Object, Tree};
use crate::domain::chat::Role;

/// Under which keys models that reason have what they thought.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// What else a message may have, besides the keys of its dialect.
const OTHER_KEYS: [&str; 7] = ["name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal", "audio"];

/// What the assistant thought.
pub(super) fn reasoning(object: &Object, role: Role, at: &Path<'_>, findings: &mut Findings) -> Option<String> {
    let mut there = REASONING.into_iter().filter_map(|key| Some((key, object.get(key)?)));
    let (key, tree) = there.next()?;
    if let Some((other, _)) = there.next() {
        findings.fault(at.key(other), format!("stands beside {key}; give one of them"));
    }
    match tree {
        Tree::Text(text) if text.trim().is_empty() => None,
        _ if role != Role::Assistant => {
            findings.fault(
                at.key(key),
                format!("stands on a message of the {}; only the assistant reasons", role.as_str()),
            );
            None
        }
        tree => findings.keep(at.key(key), text(tree)),
    }
}

/// Whether the message is learned, which a weight of the assistant's says.
pub(super) fn weight(object: &Object, role: Role, at: &Path<'_>, findings: &mut Findings) -> bool {
    let Some(tree) = object.get("weight") else { return true };
    let at = at.key("weight");
    let number = if let Tree::Number(number) = tree { number.as_f64() } else { None };
    if role != Role::Assistant {
        let what = format!(
            "stands on a message of the {}; only messages of the assistant are learned, so only they have one",
            role.as_str()
        );
        findings.fault(at, what);
        return true;
    }
    match number {
        Some(0.0) => false,
        Some(1.0) => true,
        Some(_) => {
            findings.fault(at, format!("must be 0 or 1, not {tree}"));
            true
        }
        None => {
            findings.fault(at, must_be("0 or 1", tree));
            true
        }
    }
}

/// Checks what is another's, or is not trained, and remarks keys that nobody reads. `own` are those of the dialect.
pub(super) fn check(object: &Object, role: Role, own: [&str; 2], at: &Path<'_>, findings: &mut Findings) {
    if role != Role::Tool && object.get("tool_call_id").is_some() {
        let what = format!("stands on a message of the {}; only tools answer calls", role.as_str());
        findings.fault(at.key("tool_call_id"), what);
    }
    if object.get("refusal").is_some_and(|tree| tree.as_text() != Some("")) {
        findings.fault(at.key("refusal"), "is not trained; write what the assistant says as content");
    }
    if object.get("audio").is_some() {
        findings.fault(at.key("audio"), "is not trained; leave the key out, and write what is said as content");
    }
    let there = object.0.iter().filter(|(_, value)| *value != Tree::Null).map(|(key, _)| key.as_str());
    let is_read = |key: &&str| own.contains(key) || OTHER_KEYS.contains(key) || REASONING.contains(key);
    there.filter(|key| !is_read(key)).for_each(|key| findings.key_not_read(key));
}
