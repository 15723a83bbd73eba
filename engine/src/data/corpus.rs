//! Plain texts in memory.

use super::examples::partition;
use super::reader::Examples;
use super::splits::Dataset;
use super::texts::{Texts, TextsBuilder};
use crate::error::Result;
use crate::observer::Observer;
use crate::text::TextTokenizer;
use finetuned::dataset::prints::of_texts;
use finetuned::dataset::texts;
use finetuned::domain::run::DataFile;

/// Plain texts, and the lines that they stand on.
#[derive(Default)]
pub struct Corpus {
    pub texts: Texts,
    pub lines: Vec<u64>,
    /// What each text is known by.
    prints: Vec<u64>,
}

impl Corpus {
    /// Reads and tokenises a file of texts.
    ///
    /// # Errors
    /// The file is not as it was when the job was validated.
    pub fn load(
        file: &DataFile,
        param: &'static str,
        tokenizer: &TextTokenizer,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let (mut texts, mut lines, mut prints) = (TextsBuilder::new(tokenizer), Vec::new(), Vec::new());
        for text in Examples::open(file, param, observer, texts::read)? {
            let text = text?;
            lines.push(text.line);
            prints.push(of_texts([text.text.as_str()]));
            texts.push(text.text, None)?;
        }
        Ok(Self { texts: texts.finish()?, lines, prints })
    }
}

impl Corpus {
    /// These texts, each on a line of its own.
    ///
    /// # Errors
    /// A text cannot be tokenised.
    #[cfg(test)]
    pub(crate) fn of(texts: &[&str], tokenizer: &TextTokenizer) -> Result<Self> {
        let mut builder = TextsBuilder::new(tokenizer);
        for text in texts {
            builder.push((*text).to_owned(), None)?;
        }
        let prints = texts.iter().map(|&text| of_texts([text])).collect();
        Ok(Self { texts: builder.finish()?, lines: (1..=texts.len() as u64).collect(), prints })
    }
}

impl Dataset for Corpus {
    fn strata(&self) -> Vec<usize> {
        vec![0; self.lines.len()]
    }

    fn prints(&self) -> &[u64] {
        &self.prints
    }

    fn partition(self, keep: &[bool]) -> (Self, Self) {
        let (texts, other_texts) = self.texts.partition(keep);
        let (lines, other_lines) = partition(self.lines, keep);
        let (prints, other_prints) = partition(self.prints, keep);
        (Self { texts, lines, prints }, Self { texts: other_texts, lines: other_lines, prints: other_prints })
    }
}
