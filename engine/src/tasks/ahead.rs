//! A task as the training loop sees it: batches that are made ahead, whatever they are, and evaluations.

use std::sync::Arc;
use std::time::Duration;

use super::examples::ExampleTable;
use super::task::{Batch, Counts, Forward, Task};
use crate::data::loader::BatchLoader;
use crate::data::source::{BatchSource, Pick, Subset, View};
use crate::error::{EngineError, Result};
use crate::nn::Mode;
use crate::observer::Observer;
use crate::score::Evaluation;

/// Batches made ahead.
const AHEAD: usize = 3;

/// A task whose batches nobody else knows.
pub trait AnyTask {
    /// The number of examples in a subset; 0 where the run has none.
    fn size(&self, subset: Subset) -> usize;

    /// What the loss sum of these training examples counts for; see [`Task::count`].
    fn count(&self, examples: &[usize], epoch: u64) -> f64;

    /// Says which training batches epoch `epoch` takes, after those that were said before: they are made ahead.
    fn announce(&mut self, batches: &mut dyn Iterator<Item = Vec<usize>>, epoch: u64);

    /// The forward pass over the next batch that was announced, and what that counts.
    ///
    /// # Errors
    /// An example cannot be read any more, or libtorch fails.
    fn forward(&mut self, mode: &Mode) -> Result<(Forward, Counts)>;

    /// Statistics of the training examples; see [`Task::examples`].
    fn examples(&self) -> Option<ExampleTable>;

    /// The time spent waiting for training batches so far.
    fn waited(&self) -> Duration;

    /// An evaluation on a subset; None if it is empty, or if the run shall stop.
    ///
    /// # Errors
    /// An example cannot be read any more, or libtorch fails.
    fn evaluate(&self, subset: Subset, observer: &dyn Observer) -> Result<Option<Evaluation<'_>>>;
}

/// Batches in the making.
type Loader<S> = BatchLoader<Pick, <S as BatchSource>::Batch>;

/// A task, and its training batches in the making.
pub(super) struct Ahead<T: Task> {
    task: T,
    training: Loader<T::Data>,
}

impl<T: Task> Ahead<T> {
    pub(super) fn new(task: T) -> Self {
        Self { training: loader(task.source()), task }
    }

    /// How batches of a subset are seen that need not be seen at all where the task knows what its model makes of them.
    fn view(&self, subset: Subset, view: View) -> View {
        if self.task.knows(subset) { View::Known } else { view }
    }
}

impl<T: Task> AnyTask for Ahead<T> {
    fn size(&self, subset: Subset) -> usize {
        self.task.source().size(subset)
    }

    fn count(&self, examples: &[usize], epoch: u64) -> f64 {
        self.task.count(examples, epoch)
    }

    fn announce(&mut self, batches: &mut dyn Iterator<Item = Vec<usize>>, epoch: u64) {
        let (subset, view) = (Subset::Training, self.view(Subset::Training, View::Epoch(epoch)));
        self.training.extend(batches.map(|examples| Pick { subset, examples, view }));
    }

    fn forward(&mut self, mode: &Mode) -> Result<(Forward, Counts)> {
        let batch = self.training.next();
        let batch = batch.ok_or_else(|| EngineError::native("a batch was wanted that was not announced"))??;
        let forward = self.task.forward(&self.task.inputs(&batch)?, mode)?;
        Ok((forward, self.task.counts(&batch)))
    }

    fn examples(&self) -> Option<ExampleTable> {
        self.task.examples()
    }

    fn waited(&self) -> Duration {
        self.training.waited()
    }

    fn evaluate(&self, subset: Subset, observer: &dyn Observer) -> Result<Option<Evaluation<'_>>> {
        if self.size(subset) == 0 {
            return Ok(None);
        }
        let _guard = tch::no_grad_guard();
        let mut outputs = self.task.begin(subset);
        let (source, view) = (self.task.source(), self.view(subset, View::Plain));
        let seen_all = each(source, subset, view, observer, |batch: Batch<T>| self.task.add(&mut outputs, &batch))?;
        // How sure the scores are is worked out of the last evaluation alone.
        let intervals = (subset == Subset::Test).then_some(observer);
        Ok(if seen_all { self.task.score(subset, outputs, intervals) } else { None })
    }
}

fn loader<S: BatchSource>(source: &Arc<S>) -> Loader<S> {
    let (threads, source) = (source.threads(), Arc::clone(source));
    BatchLoader::new(threads, AHEAD, move |pick| source.make(pick))
}

/// Calls `then` with each batch of a subset as an evaluation has them, which are made ahead; false if the run shall stop
/// before the last one.
///
/// # Errors
/// Those of `then`, or an example cannot be read any more.
pub(super) fn each<S: BatchSource>(
    source: &Arc<S>,
    subset: Subset,
    view: View,
    observer: &dyn Observer,
    mut then: impl FnMut(S::Batch) -> Result<()>,
) -> Result<bool> {
    let batches = loader(source);
    batches.extend(source.groups(subset).into_iter().map(|examples| Pick { subset, examples, view }));
    for batch in batches {
        if observer.stop().is_some() {
            return Ok(false);
        }
        observer.alive();
        then(batch?)?;
    }
    Ok(true)
}
