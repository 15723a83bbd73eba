//! The data of a run: what is trained on, what it is validated with, and what it is tested with.

use super::examples::Examples;
use super::source::Subset;
use crate::error::Result;
use finetuned::dataset::split::held_out;
use finetuned::domain::run::{DataFile, RunSpec};

/// Examples that can be split in two.
pub trait Dataset: Sized {
    /// The class of each example, as far as holding out is concerned: the same share is held out of each.
    fn strata(&self) -> Vec<usize>;

    /// The examples for which `keep` is true, and the others.
    fn partition(self, keep: &[bool]) -> (Self, Self);
}

impl Dataset for Examples {
    fn strata(&self) -> Vec<usize> {
        self.targets.strata()
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
        let all = read(&spec.training, "training_file")?;
        let (training, validation) = if let Some(file) = &spec.validation {
            (all, load(file, "validation_file")?)
        } else {
            let held = held_out(&all.strata(), spec.validation_split, spec.seed);
            let (held, kept) = all.partition(&held);
            (kept, held)
        };
        Ok(Self { training, validation, test: read(&spec.test, "test_file")? })
    }
}
