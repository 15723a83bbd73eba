//! Which tokens BPE merges, in which order: as a GGUF file lists it, or as the scores of sentencepiece tell.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::metadata::Metadata;
use super::vocabulary::{Role, Vocabulary, has_spaces};

/// Merges, at most.
const MAX_MERGES: usize = 4 << 20;
/// Bytes of a token that is still merged of others: the work grows with their square.
const MAX_MERGED_BYTES: usize = 512;

/// Two tokens that are merged, in the order of precedence.
pub(super) type Merge<'a> = (&'a str, &'a str);

/// The merges that a file lists.
///
/// # Errors
/// There is no list, or one of a pair, or what it becomes, is no token.
pub(super) fn listed<'a>(metadata: Metadata<'a>, ids: &HashMap<&str, usize>) -> Result<Vec<Merge<'a>>, String> {
    let texts = metadata.texts("tokenizer.ggml.merges")?;
    let texts = texts.ok_or("the GGUF file does not have the key tokenizer.ggml.merges")?;
    let mut joined = String::new();
    let merge = |text: &'a str| {
        // The first token may begin with the space.
        let second = text.char_indices().skip(1).find(|&(_, character)| character == ' ').map(|(place, _)| place);
        let pair = second.and_then(|place| Some((text.get(..place)?, text.get(place + 1..)?)));
        pair.filter(|&(left, right)| {
            joined.clear();
            joined.extend([left, right]);
            [left, right, &joined].iter().all(|token| ids.contains_key(token))
        })
        .ok_or_else(|| format!("the GGUF file merges {text:?}, of which not all are tokens"))
    };
    texts.into_iter().map(merge).collect()
}

/// The merges of sentencepiece, which merges those two neighbours that become the token with the highest score. Every
/// way to make a token of two others is one. Of those with one score, the longest left sides come first, as in
/// `convert_slow_tokenizer.py` of Transformers: so runs of one character grow at their end.
///
/// User-defined runs of spaces are found before anything else is made, so they are merged first. Other user-defined
/// tokens are no matter of BPE: they are found in the text as it is.
///
/// # Errors
/// The file has no scores for its tokens, or there are too many merges.
pub(super) fn scored<'a>(
    metadata: Metadata,
    vocabulary: &'a Vocabulary,
    ids: &HashMap<&str, usize>,
) -> Result<Vec<Merge<'a>>, String> {
    let scores = metadata.numbers("tokenizer.ggml.scores")?;
    let scores = scores.ok_or("the GGUF file does not have the key tokenizer.ggml.scores")?;
    let score = |id: usize| scores.get(id).copied().unwrap_or(f32::MIN);
    let mut found: Vec<Found> = Vec::new();
    for (id, token, role) in vocabulary.entries() {
        let is_first = role == Role::UserDefined && has_spaces(token);
        if !(is_first || role == Role::Normal) || token.len() > MAX_MERGED_BYTES {
            continue;
        }
        let rank = if is_first { f32::INFINITY } else { score(id) };
        for (place, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(place);
            if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
                found.push(Found { rank, left, right });
            }
        }
        if found.len() > MAX_MERGES {
            return Err(format!("the tokens of the GGUF file are made of each other in more than {MAX_MERGES} ways"));
        }
    }
    let text = |id: usize| vocabulary.token(Some(id)).unwrap_or_default();
    let lengths = |merge: &Found| Reverse((text(merge.left).len(), text(merge.right).len()));
    found.sort_by(|a, b| b.rank.total_cmp(&a.rank).then_with(|| lengths(a).cmp(&lengths(b))));
    Ok(found.into_iter().map(|merge| (text(merge.left), text(merge.right))).collect())
}

/// Two tokens, and the score of what they become.
struct Found {
    rank: f32,
    left: usize,
    right: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::architecture::Architecture;
    use crate::gguf::container::Gguf;
    use crate::gguf::encode::Entry;
    use crate::gguf::samples::{bytes, entries, put, sentence_piece, texts};

    /// A file with these tokens, which are all text but for those whose places are given.
    fn file(tokens: &[&str], scores: &[f32], user_defined: &[usize]) -> Gguf {
        let mut entries = entries(Architecture::Llama);
        sentence_piece(&mut entries);
        let role = |id: usize| if user_defined.contains(&id) { 4 } else { 1 };
        put(&mut entries, "tokenizer.ggml.tokens", texts(tokens));
        put(&mut entries, "tokenizer.ggml.token_type", Entry::Wholes((0..tokens.len()).map(role).collect()));
        put(&mut entries, "tokenizer.ggml.scores", Entry::Numbers(scores.to_vec()));
        let entries: Vec<(&str, Entry)> = entries.iter().map(|(key, entry)| (key.as_str(), entry.clone())).collect();
        Gguf::in_memory(&bytes(&entries, &[])).unwrap()
    }

    fn merges(gguf: &Gguf) -> Vec<(String, String)> {
        let vocabulary = Vocabulary::read(gguf.metadata()).unwrap();
        let ids = vocabulary.ids().unwrap();
        let merges = scored(gguf.metadata(), &vocabulary, &ids).unwrap();
        merges.into_iter().map(|(left, right)| (left.to_owned(), right.to_owned())).collect()
    }

    fn pairs(expected: &[Merge]) -> Vec<(String, String)> {
        expected.iter().map(|&(left, right)| (left.to_owned(), right.to_owned())).collect()
    }

    #[test]
    fn tokens_with_high_scores_are_merged_first() {
        let gguf = file(&["a", "b", "c", "bc", "abc", "ab"], &[-9.0, -9.0, -9.0, -2.0, -3.0, -1.0], &[]);
        assert_eq!(merges(&gguf), pairs(&[("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]));
    }

    #[test]
    fn user_defined_runs_of_spaces_are_merged_before_all_others_and_grow_at_their_end() {
        let gguf =
            file(&["▁", "a", "▁a", "  ", "   ", "<b>"], &[-9.0, -9.0, -1.0, -1000.0, -1000.0, -1000.0], &[3, 4, 5]);
        assert_eq!(merges(&gguf), pairs(&[("▁▁", "▁"), ("▁", "▁▁"), ("▁", "▁"), ("▁", "a")]));
    }

    #[test]
    fn tokens_of_any_length_take_bounded_work() {
        let long = "a".repeat(1 << 16);
        let gguf = file(&["a", "aa", &long], &[-3.0, -1.0, -2.0], &[]);
        assert_eq!(merges(&gguf), pairs(&[("a", "a")]));
    }
}
