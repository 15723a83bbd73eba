//! Labelled texts in memory.

use std::collections::HashMap;

use super::reader;
use super::texts::{Texts, TextsBuilder};
use crate::error::{EngineError, Result};
use crate::observer::Observer;
use crate::text::TextTokenizer;
use finetuned::dataset::labelled::{self, Target};
use finetuned::dataset::prints::of_texts;
use finetuned::domain::method::ProblemType;
use finetuned::domain::run::DataFile;

/// What is to be predicted of each example.
#[derive(Clone, Debug)]
pub enum Targets {
    Classes(Vec<usize>),
    /// Classes of each example, sorted.
    Sets(Vec<Vec<usize>>),
    Values(Vec<f64>),
}

impl Targets {
    fn new(problem: ProblemType) -> Self {
        match problem {
            ProblemType::SingleLabelClassification => Self::Classes(Vec::new()),
            ProblemType::MultiLabelClassification => Self::Sets(Vec::new()),
            ProblemType::Regression => Self::Values(Vec::new()),
        }
    }

    /// The targets for which `keep` is true, and the others.
    pub fn partition(self, keep: &[bool]) -> (Self, Self) {
        match self {
            Self::Classes(classes) => {
                let (kept, others) = partition(classes, keep);
                (Self::Classes(kept), Self::Classes(others))
            }
            Self::Sets(sets) => {
                let (kept, others) = partition(sets, keep);
                (Self::Sets(kept), Self::Sets(others))
            }
            Self::Values(values) => {
                let (kept, others) = partition(values, keep);
                (Self::Values(kept), Self::Values(others))
            }
        }
    }

    /// The class of each example, as far as holding out is concerned: one for all where there is not just one of each.
    pub fn strata(&self) -> Vec<usize> {
        match self {
            Self::Classes(classes) => classes.clone(),
            Self::Sets(sets) => vec![0; sets.len()],
            Self::Values(values) => vec![0; values.len()],
        }
    }
}

/// `values` for which `keep` is true, and the others.
pub fn partition<V>(values: Vec<V>, keep: &[bool]) -> (Vec<V>, Vec<V>) {
    let (mut kept, mut others) = (Vec::new(), Vec::new());
    for (value, &keep) in values.into_iter().zip(keep) {
        if keep { kept.push(value) } else { others.push(value) }
    }
    (kept, others)
}

/// Texts with a target each.
#[derive(Clone, Debug)]
pub struct Examples {
    pub texts: Texts,
    pub targets: Targets,
    /// The line of its file on which each example stands.
    pub lines: Vec<u64>,
    /// What each is known by.
    pub prints: Vec<u64>,
}

impl Examples {
    /// No examples of a problem.
    pub fn none(problem: ProblemType) -> Self {
        let targets = Targets::new(problem);
        Self { texts: Texts::default(), targets, lines: Vec::new(), prints: Vec::new() }
    }

    /// Reads and tokenises a file of labelled texts whose labels are all in `labels`.
    ///
    /// # Errors
    /// The file is not as it was when the job was validated.
    pub fn load(
        file: &DataFile,
        param: &'static str,
        problem: ProblemType,
        labels: &[String],
        tokenizer: &TextTokenizer,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let class_of: HashMap<&str, usize> =
            labels.iter().enumerate().map(|(class, label)| (label.as_str(), class)).collect();
        let (mut texts, mut targets) = (TextsBuilder::new(tokenizer), Targets::new(problem));
        let (mut lines, mut prints) = (Vec::new(), Vec::new());
        for example in reader::Examples::open(file, param, observer, |input| labelled::read(input, problem))? {
            let example = example?;
            let class = |label: &String| {
                let message = || format!("line {} has an unknown label", example.line);
                class_of.get(label.as_str()).copied().ok_or_else(|| EngineError::Data { param, message: message() })
            };
            let mut classes = example.labels().iter().map(class).collect::<Result<Vec<usize>>>()?;
            match (&mut targets, example.target) {
                (Targets::Values(all), Target::Value(value)) => all.push(value),
                (Targets::Sets(all), _) => {
                    classes.sort_unstable();
                    all.push(classes);
                }
                (Targets::Classes(all), _) => all.extend(classes),
                (Targets::Values(_), _) => {}
            }
            lines.push(example.line);
            prints.push(of_texts(std::iter::once(example.text.as_str()).chain(example.pair.as_deref())));
            texts.push(example.text, example.pair)?;
        }
        Ok(Self { texts: texts.finish()?, targets, lines, prints })
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The examples for which `keep` is true, and the others.
    pub fn partition(self, keep: &[bool]) -> (Self, Self) {
        let (texts, other_texts) = self.texts.partition(keep);
        let (targets, other_targets) = self.targets.partition(keep);
        let (lines, other_lines) = partition(self.lines, keep);
        let (prints, other_prints) = partition(self.prints, keep);
        let others = Self { texts: other_texts, targets: other_targets, lines: other_lines, prints: other_prints };
        (Self { texts, targets, lines, prints }, others)
    }
}
