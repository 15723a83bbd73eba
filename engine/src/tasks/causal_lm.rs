//! Continued pre-training (Gururangan et al. 2020, arXiv:2004.10964) on plain texts, as in Transformers' `…ForCausalLM`:
//! adapts a language model to a domain.

use std::ops::Range;
use std::path::Path;

use tch::Kind;

use super::Loaded;
use super::base::TextBase;
use super::causal;
use super::preview::Show;
use crate::data::corpus::Corpus;
use crate::data::splits::{Dataset, Splits};
use crate::data::tokens::{Curriculum, Sequence, TokenRows};
use crate::device::ComputeDevice;
use crate::error::Result;
use crate::models::text::CausalLm;
use crate::observer::Observer;
use crate::text::TextTokenizer;
use finetuned::dataset::preview::{Content, PreviewSpec};
use finetuned::domain::method::causal_lm::Settings;
use finetuned::domain::method::language::Truncation;
use finetuned::domain::preview::Preview;
use finetuned::domain::run::{DataFile, RunSpec};

/// Reads the model and the data that `spec` names.
///
/// # Errors
/// The model or a data file cannot be used.
pub(super) fn load(spec: &RunSpec, device: ComputeDevice, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
    let own: Settings = super::settings(spec)?;
    let longest = spec.hyperparameters.course.max_sequence_length as usize;
    let base = TextBase::open_uncut(spec)?;
    let end = base.tokenizer.end()?;
    let load = |file: &DataFile, param| Corpus::load(file, param, &base.tokenizer, observer);
    let texts = Splits::load(spec, Corpus::default, load)?;
    let examples = (texts.training.lines.len(), texts.validation.lines.len());
    let splits = texts.map(|corpus: Corpus| pieces(&corpus, end, longest));
    let curriculum = Curriculum::new(splits, own.packing.then_some(longest));
    causal::loaded(spec, &base, curriculum, (examples, own.kept), device, compute)
}

/// Whether the model in `directory` can be trained.
///
/// # Errors
/// It cannot; the error says what it lacks.
pub(super) fn check(directory: &Path) -> Result<()> {
    let base = TextBase::outline(directory)?;
    base.check(CausalLm::new)?;
    base.tokenizer.end().map(drop)
}

/// What the model reads of examples.
///
/// # Errors
/// The model has no token that ends a text, or the tokenizer fails.
pub(super) fn preview(spec: &PreviewSpec, tokenizer: &TextTokenizer) -> Result<Vec<Preview>> {
    let end = tokenizer.end()?;
    let show = Show::new(spec, tokenizer, Truncation::Cut);
    show.examples(&spec.examples, |content| {
        let Content::Text(text) = content else { return Ok(None) };
        let ids = ended(tokenizer.ids(text, true)?, end);
        let pieces = cut(ids.len(), show.longest);
        Ok(Some(Ok(pieces.map(|piece| ("piece", ids[piece].iter().map(|&id| (id, true)).collect())).collect())))
    })
}

/// Texts with the token that ends them, cut into pieces of at most `longest` tokens.
fn pieces(corpus: &Corpus, end: u32, longest: usize) -> TokenRows {
    let mut rows = TokenRows::default();
    for (index, (&line, &print)) in corpus.lines.iter().zip(corpus.prints()).enumerate() {
        let ids = ended(corpus.texts.ids_of(index).to_vec(), end);
        for piece in cut(ids.len(), longest) {
            let tokens = ids[piece].iter().map(|&id| (id, true));
            rows.push(Sequence { tokens, line, print, is_truncated: false });
        }
    }
    rows
}

/// A text with the token that ends it.
fn ended(mut ids: Vec<u32>, end: u32) -> Vec<u32> {
    if ids.last() != Some(&end) {
        ids.push(end);
    }
    ids
}

/// Where a text of so many tokens is cut. A piece begins with the last token of the one before it, so that every token but the
/// first of a text is guessed once.
fn cut(tokens: usize, longest: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (0..tokens.saturating_sub(1)).step_by(longest.saturating_sub(1).max(1));
    starts.map(move |start| start..(start + longest).min(tokens))
}

#[cfg(test)]
mod tests {
    use super::{Corpus, pieces};
    use crate::text::TextTokenizer;

    #[test]
    fn every_token_but_the_first_is_guessed_once() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-roberta");
        let tokenizer = TextTokenizer::open(&folder, 1000, 1000).unwrap();
        let text = "how do i get my new card it has not come yet";
        let corpus = Corpus::of(&[text, "card"], &tokenizer).unwrap();
        let ids = corpus.texts.ids_of(0);
        let end = *ids.last().unwrap();
        for longest in [2, 5, 100] {
            let rows = pieces(&corpus, end, longest);
            assert!(rows.lengths().iter().all(|&length| length <= longest));
            let of_first: usize = (0..rows.len()).filter(|&row| rows.line(row) == 1).map(|row| rows.learned(row)).sum();
            assert_eq!(of_first, ids.len() - 1);
            let targets = rows.pack(&(0..rows.len()).collect::<Vec<_>>()).targets;
            assert!(targets[..of_first].iter().map(|&id| id as u32).eq(ids[1..].iter().copied()));
        }
    }
}
