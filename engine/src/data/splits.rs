//! The data of a run: what is trained on, what it is validated with, and what it is tested with.

use std::collections::HashSet;

use super::examples::Examples;
use super::source::Subset;
use crate::error::Result;
use finetuned::domain::run::{DataFile, RunSpec};
use finetuned::domain::split::Splitting;

/// Examples that can be split in two.
pub trait Dataset: Sized {
    /// The class of each example, as far as holding out is concerned: the same share is held out of each.
    fn strata(&self) -> Vec<usize>;

    /// What each example is known by: equal ones have the same.
    fn prints(&self) -> &[u64];

    /// The examples for which `keep` is true, and the others.
    fn partition(self, keep: &[bool]) -> (Self, Self);
}

impl Dataset for Examples {
    fn strata(&self) -> Vec<usize> {
        self.targets.strata()
    }

    fn prints(&self) -> &[u64] {
        &self.prints
    }

    fn partition(self, keep: &[bool]) -> (Self, Self) {
        Self::partition(self, keep)
    }
}

/// The data of a run; empty is what it has none of.
pub struct Splits<T> {
    pub training: T,
    pub validation: T,
    pub test: T,
}

impl<T> Splits<T> {
    /// The same of what `change` makes of each.
    pub fn map<U>(self, change: impl Fn(T) -> U) -> Splits<U> {
        Splits { training: change(self.training), validation: change(self.validation), test: change(self.test) }
    }

    /// What `of` says of each.
    pub fn each<U>(&self, of: impl Fn(&T) -> U) -> Splits<U> {
        Splits { training: of(&self.training), validation: of(&self.validation), test: of(&self.test) }
    }

    /// One of its subsets, to change it.
    pub fn get_mut(&mut self, subset: Subset) -> &mut T {
        match subset {
            Subset::Training => &mut self.training,
            Subset::Validation => &mut self.validation,
            Subset::Test => &mut self.test,
        }
    }

    /// One of its subsets.
    pub fn get(&self, subset: Subset) -> &T {
        match subset {
            Subset::Training => &self.training,
            Subset::Validation => &self.validation,
            Subset::Test => &self.test,
        }
    }
}

impl<T: Dataset> Splits<T> {
    /// Reads the files that `spec` names with `load`, and holds some of the training data out where there is no
    /// validation file. `empty` makes what there is no file of.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load(
        spec: &RunSpec,
        empty: impl Fn() -> T,
        load: impl Fn(&DataFile, &'static str) -> Result<T>,
    ) -> Result<Self> {
        let read = |file: &Option<DataFile>, param| file.as_ref().map_or_else(|| Ok(empty()), |file| load(file, param));
        let mut training = read(&spec.training, "training_file")?;
        let mut validation = read(&spec.validation, "validation_file")?;
        let test = read(&spec.test, "test_file")?;
        if spec.drops_overlap {
            validation = without(validation, &[test.prints()]);
            training = without(training, &[test.prints(), validation.prints()]);
        }
        if spec.validation.is_none() {
            let strata = training.strata();
            let prints = spec.grouped.then(|| training.prints());
            let held = Splitting { classes: &strata, prints }.held_out(spec.validation_split, spec.seed);
            (validation, training) = training.partition(&held);
        }
        Ok(Self { training, validation, test })
    }
}

/// The examples that are in none of the others.
fn without<T: Dataset>(examples: T, others: &[&[u64]]) -> T {
    let others: HashSet<u64> = others.iter().copied().flatten().copied().collect();
    let keep: Vec<bool> = examples.prints().iter().map(|print| !others.contains(print)).collect();
    examples.partition(&keep).0
}
