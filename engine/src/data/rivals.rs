//! Pairs of sequences, of which one is preferred.

use super::examples::partition;
use super::splits::Dataset;
use super::tokens::{Lesson, Sequence, TokenRows};
use finetuned::domain::report::TokenLengths;

/// Pairs: sequence `2 i` is preferred to sequence `2 i + 1`.
#[derive(Default)]
pub struct Rivals {
    rows: TokenRows,
    /// What each pair is known by.
    prints: Vec<u64>,
}

/// Ids, and whether each is learned.
type Tokens = Vec<(u32, bool)>;

impl Rivals {
    /// Adds a pair, of which the first is preferred.
    pub fn push(&mut self, pair: [Tokens; 2], line: u64, print: u64, is_truncated: bool) {
        for tokens in pair {
            self.rows.push(Sequence { tokens, line, print, is_truncated });
        }
        self.prints.push(print);
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.prints.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.prints.is_empty()
    }

    /// Tokens of all of them.
    pub fn tokens(&self) -> usize {
        self.rows.tokens()
    }

    /// The line that a pair stands on.
    pub fn line(&self, pair: usize) -> u64 {
        self.rows.line(2 * pair)
    }

    /// Tokens of each pair.
    pub fn lengths(&self) -> Vec<usize> {
        self.rows.lengths().chunks(2).map(|pair| pair.iter().sum()).collect()
    }

    /// The lengths of all sequences, for the job's owner.
    pub fn token_lengths(&self) -> TokenLengths {
        self.rows.token_lengths()
    }

    /// The sequences of these pairs, laid end to end, each pair's preferred one first.
    pub fn pack(&self, pairs: &[usize]) -> Lesson {
        let sequences: Vec<usize> = pairs.iter().flat_map(|&pair| [2 * pair, 2 * pair + 1]).collect();
        self.rows.pack(&sequences)
    }
}

impl Dataset for Rivals {
    fn strata(&self) -> Vec<usize> {
        vec![0; self.len()]
    }

    fn prints(&self) -> &[u64] {
        &self.prints
    }

    fn partition(self, keep: &[bool]) -> (Self, Self) {
        let both: Vec<bool> = keep.iter().flat_map(|&keep| [keep, keep]).collect();
        let (rows, other_rows) = self.rows.partition(&both);
        let (prints, other_prints) = partition(self.prints, keep);
        (Self { rows, prints }, Self { rows: other_rows, prints: other_prints })
    }
}
