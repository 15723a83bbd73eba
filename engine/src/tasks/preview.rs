//! Examples as language models read them, for whoever wants to see it before a job runs.

use super::writing::Tokens;
use crate::error::Result;
use crate::text::TextTokenizer;
use finetuned::dataset::preview::{Content, Example, PreviewSpec};
use finetuned::domain::method::language::Truncation;
use finetuned::domain::preview::{Preview, Sequence, Token};

/// What is said of an example without anything to learn.
const NOTHING: &str = "is left out: it has nothing to learn within max_sequence_length";

/// The sequences that an example is written as, by name.
pub(super) type Written = std::result::Result<Vec<(&'static str, Tokens)>, String>;

/// How an example is shown.
pub(super) struct Show<'a> {
    tokenizer: &'a TextTokenizer,
    pub(super) longest: usize,
    truncation: Truncation,
}

impl<'a> Show<'a> {
    /// As a job with these hyperparameters has it.
    pub(super) fn new(spec: &PreviewSpec, tokenizer: &'a TextTokenizer, truncation: Truncation) -> Self {
        let longest = spec.hyperparameters.course.max_sequence_length as usize;
        Self { tokenizer, longest, truncation }
    }

    /// The examples that `write` can write: None of those that are another method's.
    ///
    /// # Errors
    /// The tokenizer fails, which a well-made one does not.
    pub(super) fn examples(
        &self,
        examples: &[Example],
        write: impl Fn(&Content) -> Result<Option<Written>>,
    ) -> Result<Vec<Preview>> {
        let mut shown = Vec::with_capacity(examples.len());
        for example in examples {
            if let Some(written) = write(&example.content)? {
                shown.push(self.example(example.line, written)?);
            }
        }
        Ok(shown)
    }

    /// The example on a line.
    fn example(&self, line: u64, written: Written) -> Result<Preview> {
        let written = match written {
            Ok(written) => written,
            Err(why) => return Ok(Preview { line, sequences: Vec::new(), problem: Some(why) }),
        };
        let problem = self.problem(&written);
        let sequences =
            written.into_iter().map(|(name, tokens)| self.sequence(name, &tokens)).collect::<Result<_>>()?;
        Ok(Preview { line, sequences, problem })
    }

    fn problem(&self, written: &[(&'static str, Tokens)]) -> Option<String> {
        let most = written.iter().map(|(_, tokens)| tokens.len()).max().unwrap_or(0);
        let long = || format!("it has {most} tokens, and max_sequence_length is {}", self.longest);
        match self.truncation {
            Truncation::Drop if most > self.longest => return Some(format!("is left out: {}", long())),
            Truncation::Fail if most > self.longest => return Some(format!("fails the job: {}", long())),
            _ => {}
        }
        let learns = |tokens: &Tokens| tokens.iter().take(self.longest).skip(1).any(|(_, is_learned)| *is_learned);
        (!written.iter().all(|(_, tokens)| learns(tokens))).then(|| NOTHING.to_owned())
    }

    fn sequence(&self, name: &str, tokens: &Tokens) -> Result<Sequence> {
        let token = |(place, &(id, is_learned)): (usize, &(u32, bool))| {
            let cut = place >= self.longest;
            // Before the first token stands nothing that it could be guessed from.
            let trained = is_learned && place > 0 && !cut;
            Ok(Token { id, text: self.tokenizer.token_text(id)?, trained, cut })
        };
        let tokens = tokens.iter().enumerate().map(token).collect::<Result<_>>()?;
        Ok(Sequence { name: name.to_owned(), tokens })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{NOTHING, Show, Truncation};
    use crate::text::{TextTokenizer, UNCUT};

    #[test]
    fn what_is_learned_and_what_is_cut_is_told_of_each_token() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-llama");
        let tokenizer = TextTokenizer::open(&folder, UNCUT, 1000).unwrap();
        let tokens = || vec![(5, true), (9, false), (40, true), (12, true)];
        let show = |longest, truncation| {
            let show = Show { tokenizer: &tokenizer, longest, truncation };
            show.example(7, Ok(vec![("example", tokens())])).unwrap()
        };
        let flags = |longest| -> Vec<(bool, bool)> {
            let shown = show(longest, Truncation::Cut);
            shown.sequences[0].tokens.iter().map(|token| (token.trained, token.cut)).collect()
        };
        assert_eq!(flags(4), [(false, false), (false, false), (true, false), (true, false)]);
        assert_eq!(flags(3)[2..], [(true, false), (false, true)]);
        assert_eq!(show(4, Truncation::Fail).problem, None);
        assert_eq!(show(2, Truncation::Cut).problem.as_deref(), Some(NOTHING));
        let long = "it has 4 tokens, and max_sequence_length is 3";
        assert_eq!(show(3, Truncation::Drop).problem.unwrap(), format!("is left out: {long}"));
        assert_eq!(show(3, Truncation::Fail).problem.unwrap(), format!("fails the job: {long}"));
        let show = Show { tokenizer: &tokenizer, longest: 9, truncation: Truncation::Cut };
        let refused = show.example(8, Err("no template".to_owned())).unwrap();
        assert_eq!((refused.sequences.len(), refused.problem.as_deref()), (0, Some("no template")));
    }
}
