//! Tokenised examples in memory, and packed batches of them.

use std::path::Path;

use tch::{Device, Tensor};

use crate::error::{EngineError, Result};
use crate::models::bert::Tokens;
use crate::nn::Sequences;
use crate::observer::Observer;
use crate::text::TextTokenizer;
use finetuned::dataset::labelled::{self, Columns};
use finetuned::domain::report::Faults;
use finetuned::domain::run::DataFile;

/// Texts as token ids with the class of each: one flat vector, so a million short texts cost little more than their
/// tokens.
#[derive(Default)]
pub struct Examples {
    ids: Vec<u32>,
    /// Where each example's tokens start; one more than there are examples.
    starts: Vec<usize>,
    pub classes: Vec<usize>,
    /// The line of its file on which each example stands.
    pub lines: Vec<u64>,
    /// Which texts were cut to fit.
    truncated: Vec<bool>,
}

/// Texts tokenised at a time.
const CHUNK: usize = 4096;

impl Examples {
    /// Reads and tokenises a file of labelled texts whose labels are all in `labels`.
    ///
    /// # Errors
    /// The file is not as it was when the job was validated.
    pub fn load(
        file: &DataFile,
        param: &'static str,
        labels: &[String],
        tokenizer: &TextTokenizer,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let mut examples = Self { starts: vec![0], ..Self::default() };
        let mut faults = Faults::default();
        let mut pending: Vec<String> = Vec::with_capacity(CHUNK);
        let mut failure = None;
        let columns = Columns { text: file.text_column.as_deref(), label: file.label_column.as_deref() };
        let class_of: std::collections::HashMap<&str, usize> =
            labels.iter().enumerate().map(|(class, label)| (label.as_str(), class)).collect();
        let path: &Path = &file.path;
        labelled::read(path, file.format, columns, &mut faults, |example| {
            let Some(&class) = class_of.get(example.label.as_str()) else {
                let message = format!("line {} has an unknown label", example.line);
                failure.get_or_insert(EngineError::Data { param, message });
                return;
            };
            examples.classes.push(class);
            examples.lines.push(example.line);
            pending.push(example.text);
            observer.alive();
            if pending.len() == CHUNK
                && let Err(error) = examples.tokenise(&mut pending, tokenizer)
            {
                failure.get_or_insert(error);
            }
        })
        .map_err(EngineError::io(path))?;
        examples.tokenise(&mut pending, tokenizer)?;
        if !faults.is_empty() {
            return Err(EngineError::Data { param, message: faults.summary() });
        }
        failure.map_or(Ok(examples), Err)
    }

    fn tokenise(&mut self, texts: &mut Vec<String>, tokenizer: &TextTokenizer) -> Result<()> {
        let slices: Vec<&str> = texts.iter().map(String::as_str).collect();
        for encoded in tokenizer.encode(&slices)? {
            self.truncated.push(encoded.truncated);
            self.ids.extend(encoded.ids);
            self.starts.push(self.ids.len());
        }
        texts.clear();
        Ok(())
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The number of tokens of all examples together.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// How many texts were cut to fit.
    pub fn truncated(&self) -> u64 {
        self.truncated.iter().filter(|&&cut| cut).count() as u64
    }

    /// The number of tokens of each example.
    pub fn lengths(&self) -> Vec<usize> {
        self.starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// The examples for which `keep` is true, and the others.
    pub fn partition(self, keep: &[bool]) -> (Self, Self) {
        let mut kept = Self { starts: vec![0], ..Self::default() };
        let mut others = Self { starts: vec![0], ..Self::default() };
        for (index, &keep) in keep.iter().enumerate() {
            let part = if keep { &mut kept } else { &mut others };
            part.ids.extend_from_slice(self.tokens_of(index));
            part.starts.push(part.ids.len());
            part.classes.push(self.classes[index]);
            part.lines.push(self.lines[index]);
            part.truncated.push(self.truncated[index]);
        }
        (kept, others)
    }

    fn tokens_of(&self, index: usize) -> &[u32] {
        &self.ids[self.starts[index]..self.starts[index + 1]]
    }

    /// The examples at `indices`, packed: their tokens laid end to end.
    pub fn pack(&self, indices: &[usize], device: Device) -> Result<Tokens> {
        let (mut ids, mut positions, mut lengths) = (Vec::new(), Vec::new(), Vec::with_capacity(indices.len()));
        for &index in indices {
            let tokens = self.tokens_of(index);
            ids.extend(tokens.iter().map(|&id| i64::from(id)));
            positions.extend(0..tokens.len() as i64);
            lengths.push(tokens.len() as i64);
        }
        let types = vec![0_i64; ids.len()];
        Ok(Tokens {
            ids: Tensor::f_from_slice(&ids)?.f_to_device(device)?,
            positions: Tensor::f_from_slice(&positions)?.f_to_device(device)?,
            types: Tensor::f_from_slice(&types)?.f_to_device(device)?,
            sequences: Sequences::from_lengths(lengths, device)?,
        })
    }
}
