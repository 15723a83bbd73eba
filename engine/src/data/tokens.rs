//! Sequences of tokens of which some are learned: what a language model is trained on.

use super::examples::partition;
use super::packing::best_fit_decreasing;
use super::source::Subset;
use super::splits::{Dataset, Splits};
use super::texts::Packed;
use finetuned::domain::report::{Lengths, TokenLengths};

/// Sequences: one flat vector of ids, so a million short ones cost little more than their tokens.
#[derive(Clone, Debug)]
pub struct TokenRows {
    ids: Vec<u32>,
    /// Whether each token is learned: guessed from those before it in its sequence.
    learned: Vec<bool>,
    /// Where each sequence starts; one more than there are.
    starts: Vec<usize>,
    /// The line that each stands on.
    lines: Vec<u64>,
    /// What each is known by.
    prints: Vec<u64>,
    /// Which were cut to fit.
    truncated: Vec<bool>,
}

/// A sequence on its way to the others.
pub struct Sequence<T> {
    /// Ids, and whether each is learned.
    pub tokens: T,
    pub line: u64,
    pub print: u64,
    pub is_truncated: bool,
}

impl Default for TokenRows {
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            learned: Vec::new(),
            starts: vec![0],
            lines: Vec::new(),
            prints: Vec::new(),
            truncated: Vec::new(),
        }
    }
}

impl TokenRows {
    /// Adds a sequence. The first token is never learned: nothing stands before it.
    pub fn push(&mut self, sequence: Sequence<impl IntoIterator<Item = (u32, bool)>>) {
        let start = self.ids.len();
        for (id, is_learned) in sequence.tokens {
            self.learned.push(is_learned && self.ids.len() > start);
            self.ids.push(id);
        }
        self.starts.push(self.ids.len());
        self.lines.push(sequence.line);
        self.prints.push(sequence.print);
        self.truncated.push(sequence.is_truncated);
    }

    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The line that a sequence stands on.
    pub fn line(&self, index: usize) -> u64 {
        self.lines[index]
    }

    /// The number of tokens of each sequence.
    pub fn lengths(&self) -> Vec<usize> {
        self.starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// How many tokens of a sequence are learned.
    pub fn learned(&self, index: usize) -> usize {
        self.learned[self.starts[index]..self.starts[index + 1]].iter().filter(|&&learned| learned).count()
    }

    /// The lengths of all sequences, for the job's owner.
    pub fn token_lengths(&self) -> TokenLengths {
        let mut lengths = Lengths::default();
        for (length, &line) in self.lengths().into_iter().zip(&self.lines) {
            lengths.add(length as u64, line);
        }
        TokenLengths { lengths, truncated: self.truncated.iter().filter(|&&cut| cut).count() as u64 }
    }

    fn sequence(&self, index: usize) -> (&[u32], &[bool]) {
        let place = self.starts[index]..self.starts[index + 1];
        (&self.ids[place.clone()], &self.learned[place])
    }

    /// The sequences at `indices`, laid end to end.
    pub fn pack(&self, indices: &[usize]) -> Lesson {
        let (mut places, mut targets, mut counts, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for &index in indices {
            let (ids, learned) = self.sequence(index);
            let before = places.len();
            for (place, (&id, _)) in ids.iter().zip(learned).enumerate().filter(|(_, (_, learned))| **learned) {
                places.push((start + place) as i64 - 1);
                targets.push(i64::from(id));
            }
            counts.push(places.len() - before);
            start += ids.len();
        }
        let tokens = Packed::of(indices.iter().map(|&index| self.sequence(index).0));
        Lesson { sequences: indices.to_vec(), tokens, places, targets, counts }
    }
}

impl Dataset for TokenRows {
    fn strata(&self) -> Vec<usize> {
        vec![0; self.len()]
    }

    fn prints(&self) -> &[u64] {
        &self.prints
    }

    fn partition(self, keep: &[bool]) -> (Self, Self) {
        let (mut kept, mut others) = (Self::default(), Self::default());
        for (index, &keep) in keep.iter().enumerate() {
            let part = if keep { &mut kept } else { &mut others };
            let (ids, learned) = self.sequence(index);
            part.ids.extend_from_slice(ids);
            part.learned.extend_from_slice(learned);
            part.starts.push(part.ids.len());
        }
        (kept.lines, others.lines) = partition(self.lines, keep);
        (kept.prints, others.prints) = partition(self.prints, keep);
        (kept.truncated, others.truncated) = partition(self.truncated, keep);
        (kept, others)
    }
}

/// A batch of sequences.
pub struct Lesson {
    /// Their numbers.
    pub sequences: Vec<usize>,
    pub tokens: Packed,
    /// The places that guess in the packed batch, `R`.
    pub places: Vec<i64>,
    /// The tokens behind them, which they are to guess.
    pub targets: Vec<i64>,
    /// How many places of each sequence guess.
    pub counts: Vec<usize>,
}

/// The sequences of a run, and what of them a batch counts.
pub struct Curriculum {
    splits: Splits<TokenRows>,
    /// The sequences of each row of the training, where rows are filled.
    rows: Option<Vec<Vec<usize>>>,
}

impl Curriculum {
    /// Batches of sequences, or of rows of so many tokens.
    pub fn new(splits: Splits<TokenRows>, row: Option<usize>) -> Self {
        let rows = row.map(|capacity| best_fit_decreasing(&splits.training.lengths(), capacity));
        Self { splits, rows }
    }

    /// The sequences of all subsets.
    pub fn splits(&self) -> &Splits<TokenRows> {
        &self.splits
    }

    /// The sequences of a subset.
    pub fn get(&self, subset: Subset) -> &TokenRows {
        self.splits.get(subset)
    }

    /// How many things a subset's batches count.
    pub fn size(&self, subset: Subset) -> usize {
        match &self.rows {
            Some(rows) if subset == Subset::Training => rows.len(),
            _ => self.get(subset).len(),
        }
    }

    /// The sequences of what a training batch counts.
    pub fn sequences(&self, examples: &[usize]) -> Vec<usize> {
        match &self.rows {
            Some(rows) => examples.iter().flat_map(|&row| rows[row].iter().copied()).collect(),
            None => examples.to_vec(),
        }
    }
}
