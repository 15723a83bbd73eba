//! Continued pre-training (Gururangan et al. 2020, arXiv:2004.10964) on plain texts, as in Transformers' `…ForCausalLM`:
//! adapts a language model to a domain.

use std::path::Path;

use tch::Kind;

use super::Loaded;
use super::base::TextBase;
use super::causal;
use crate::data::corpus::Corpus;
use crate::data::splits::{Dataset, Splits};
use crate::data::tokens::{Curriculum, Sequence, TokenRows};
use crate::device::ComputeDevice;
use crate::error::Result;
use crate::models::text::CausalLm;
use crate::observer::Observer;
use finetuned::domain::method::causal_lm::Settings;
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
    causal::loaded(spec, &base, curriculum, examples, device, compute)
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

/// Texts with the token that ends them, cut into pieces of at most `longest` tokens. A piece begins with the last token of the
/// one before it, so that every token but the first of a text is guessed once.
fn pieces(corpus: &Corpus, end: u32, longest: usize) -> TokenRows {
    let mut rows = TokenRows::default();
    for (index, (&line, &print)) in corpus.lines.iter().zip(corpus.prints()).enumerate() {
        let mut ids = corpus.texts.ids_of(index).to_vec();
        if ids.last() != Some(&end) {
            ids.push(end);
        }
        let mut start = 0;
        while start + 1 < ids.len() {
            let stop = (start + longest).min(ids.len());
            let tokens = ids[start..stop].iter().map(|&id| (id, true));
            rows.push(Sequence { tokens, line, print, is_truncated: false });
            start = stop - 1;
        }
    }
    rows
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
