//! What an assistant writes, where the template says it with `{% generation %}`.

use std::ops::Range;

use super::Span;
use super::blocks::{CLOSE, OPEN, taken};
use super::marks::{Way, Whose};
use super::scene::Scene;
use super::spans::{Finder, WAYS};
use super::tojson::dumps;

/// Refuses a conversation with marks of its own.
///
/// # Errors
/// It has one.
pub(super) fn check(scene: &Scene) -> Result<(), String> {
    for value in scene.messages.iter().chain([&scene.tools]) {
        if dumps(value).map_err(|error| error.to_string())?.contains([OPEN, CLOSE]) {
            let (open, close) = (u32::from(OPEN), u32::from(CLOSE));
            return Err(format!(
                "the conversation has U+{open:04X} or U+{close:04X}, which are no characters; remove them"
            ));
        }
    }
    Ok(())
}

/// Whose the blocks are: those in which a message's words stand are that message's, and so are further ones up to the next
/// message's.
///
/// # Errors
/// It cannot be told whose a block is.
pub(super) fn spans(finder: &Finder<'_>, blocks: Vec<Range<usize>>) -> Result<Vec<Span>, String> {
    let assistants = finder.assistants();
    let mut owners: Vec<Option<usize>> = vec![None; blocks.len()];
    for &place in &assistants {
        let owned = WAYS.into_iter().find_map(|way| owned(finder, place, way, blocks.len()));
        for owner in owned.and_then(|owned| owners.get_mut(owned)).into_iter().flatten() {
            *owner = Some(place);
        }
    }
    let mut spans = Vec::with_capacity(blocks.len());
    for (block, range) in blocks.into_iter().enumerate() {
        let before = owners[..block].iter().flatten().next_back().copied();
        let behind = owners[block..].iter().flatten().next().copied();
        let is_between = |&place: &usize| before.is_none_or(|b| place > b) && behind.is_none_or(|b| place < b);
        let nearest = before.or(behind).filter(|_| !assistants.iter().any(is_between));
        let message = owners[block].or(nearest).ok_or_else(|| {
            format!(
                "it cannot be told which message writes block {block} of {{% generation %}} in the chat template; put what \
                 a message says into its block"
            )
        })?;
        spans.push(Span { message, range });
    }
    Ok(spans)
}

/// The blocks in which a message's words stand; None where none does, or where there are other blocks with marks than
/// without.
fn owned(finder: &Finder<'_>, place: usize, way: Way, count: usize) -> Option<Range<usize>> {
    let (text, blocks) = taken(&finder.marked(place, way)?.text).ok()?;
    let found = finder.marks.find(&text, Whose::Own)?;
    let touches = |block: &Range<usize>| block.start < found.end && found.start < block.end;
    let first = blocks.iter().position(touches).filter(|_| blocks.len() == count)?;
    let last = blocks.iter().rposition(touches)?;
    Some(first..last + 1)
}
