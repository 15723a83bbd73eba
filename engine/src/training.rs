//! The training loop. It knows steps, gradients and intervals, and nothing of texts, files or processes.

mod clock;
mod parts;
mod sums;
mod unread;

use std::collections::BTreeMap;

use tch::Tensor;

use self::clock::EpochClock;
use self::parts::Parts;
use self::sums::Sums;
use self::unread::{Queue, Unread};
use crate::data::sampler::epoch_order;
use crate::data::source::Subset;
use crate::device::ComputeDevice;
use crate::error::Result;
use crate::nn::Mode;
use crate::observer::{Observer, Part};
use crate::optim::{AdamW, Schedule};
use crate::params::ParamTable;
use crate::tasks::{AnyTask, ExampleTable};
use finetuned::domain::checkpoint::Metrics;
use finetuned::domain::hyperparameters::{Hyperparameters, Interval, Patience};
use finetuned::domain::job::Phase;
use finetuned::domain::method::language;
use finetuned::domain::metric::Metric;
use finetuned::domain::random::mix_all;
use finetuned::domain::run::{Step, TrainerCommand, TrainerMessage};

/// The shape of a run, fixed before its first step.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: i64,
    pub examples: usize,
    pub batch_size: usize,
    pub accumulation: usize,
    pub epochs: u64,
    pub schedule: Schedule,
    pub eval_interval: Interval,
    pub checkpoint_interval: Interval,
    /// Layers that keep no activations.
    pub computed_again: usize,
}

impl Plan {
    /// The plan for `examples` training examples.
    pub fn new(hyperparameters: &Hyperparameters, examples: usize, seed: i64) -> Self {
        let batch_size = hyperparameters.course.batch_size as usize;
        let accumulation = hyperparameters.course.gradient_accumulation_steps as usize;
        let epochs = u64::from(hyperparameters.course.n_epochs);
        let total_steps = examples.div_ceil(batch_size * accumulation) as u64 * epochs;
        Self {
            seed,
            examples,
            batch_size,
            accumulation,
            epochs,
            schedule: Schedule::new(hyperparameters, total_steps),
            eval_interval: hyperparameters.course.eval_interval,
            checkpoint_interval: hyperparameters.course.checkpoint_interval,
            computed_again: language::computed_again(&hyperparameters.own) as usize,
        }
    }

    /// Examples that one optimizer step sees, but for the last of an epoch.
    fn step_size(&self) -> usize {
        self.batch_size * self.accumulation
    }

    /// Steps of one epoch; the last may be smaller.
    pub fn steps_per_epoch(&self) -> u64 {
        self.examples.div_ceil(self.step_size()) as u64
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.steps_per_epoch() * self.epochs
    }
}

/// How far a run is. With the parameters and the optimizer's moments this is all that resuming needs: data order,
/// dropout and learning rate are functions of the seed and the step.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunProgress {
    /// Optimizer steps done.
    pub step: u64,
    pub trained_tokens: u64,
    /// Whether the evaluation due after `step` is done.
    pub evaluated: bool,
    /// The latest measurements.
    pub metrics: Metrics,
    /// The best evaluation so far, where the run may stop early.
    #[serde(default)]
    pub best: Option<Best>,
}

/// The best evaluation of a run.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Best {
    pub step: u64,
    pub value: f64,
    /// Evaluations since then, none of them better.
    pub since: u32,
}

/// What a checkpoint is made of besides [`RunProgress`].
pub struct State<'a> {
    pub table: &'a ParamTable,
    pub optimizer: &'a AdamW,
    /// The trained values of the best evaluation, where the run may stop early.
    pub best: Option<&'a BTreeMap<String, Tensor>>,
    /// What the run keeps of its examples.
    pub examples: Option<&'a ExampleTable>,
}

/// Saves checkpoints beside the training.
pub trait Checkpointer {
    /// Begins to save the present state, after what was begun before is done.
    fn save(&mut self, state: &State<'_>, progress: &RunProgress) -> Result<()>;

    /// Reports a save that is done: complete on disk, or failed. Waits for it if asked to.
    fn settle(&mut self, wait: bool);
}

/// How training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps are done.
    Complete,
    /// The validation data showed no more improvement.
    Early,
    /// Stopped as told.
    Stopped,
}

/// A run in the making.
pub struct Training<'a> {
    pub task: &'a mut dyn AnyTask,
    pub plan: Plan,
    /// When to stop before the last step.
    pub patience: Option<Patience>,
    pub table: &'a mut ParamTable,
    pub optimizer: &'a mut AdamW,
    /// The trained values of the best evaluation so far.
    pub best: Option<BTreeMap<String, Tensor>>,
    /// What it keeps of its examples.
    pub examples: Option<&'a mut ExampleTable>,
    pub checkpointer: &'a mut dyn Checkpointer,
    pub observer: &'a dyn Observer,
    pub device: ComputeDevice,
}

impl Training<'_> {
    /// Trains from `progress` to the end of the plan.
    ///
    /// # Errors
    /// The loss or gradient is not finite, or libtorch fails (out of memory, above all).
    pub fn run(&mut self, progress: &mut RunProgress) -> Result<End> {
        let end = self.steps(progress);
        self.checkpointer.settle(true);
        end
    }

    fn steps(&mut self, progress: &mut RunProgress) -> Result<End> {
        let (total, per_epoch) = (self.plan.total_steps(), self.plan.steps_per_epoch());
        let (mut order, mut next) = ((u64::MAX, Vec::new()), None);
        let (mut clock, mut unread) = (EpochClock::start(self.task), Queue::new());
        let mut parts = Parts::new(self.observer);
        let mut saved = progress.step > 0;
        self.observer.report(TrainerMessage::Phase { phase: Phase::Training });
        loop {
            let step = progress.step;
            if step > 0 {
                let due = self.plan.eval_interval.is_due(step, per_epoch) || step == total;
                let saves = self.plan.checkpoint_interval.is_due(step, per_epoch);
                if due || saves {
                    parts.enter(Part::Reading);
                    self.read(&mut unread, 0, progress)?;
                }
                if due && !progress.evaluated {
                    parts.enter(Part::Evaluating);
                    self.evaluate(progress)?;
                }
                if !saved && (progress.evaluated || !due) && saves {
                    parts.enter(Part::Saving);
                    self.save(progress)?;
                    saved = true;
                }
                if self.is_out_of_patience(progress) {
                    return self.end(End::Early);
                }
            }
            if let Some(TrainerCommand::Stop { checkpoint }) = self.observer.stop() {
                self.read(&mut unread, 0, progress)?;
                if checkpoint && !saved && step > 0 {
                    self.save(progress)?;
                }
                return Ok(End::Stopped);
            }
            if step == total {
                return self.end(End::Complete);
            }
            parts.enter(Part::Between);
            let epoch = step / per_epoch;
            let start = (step % per_epoch) as usize * self.plan.step_size();
            if order.0 != epoch {
                order = (epoch, self.enter(epoch, start, &mut next)?);
            }
            let end = (start + self.plan.step_size()).min(self.plan.examples);
            unread.begin();
            let computed = self.step(&order.1[start..end], epoch, progress, &mut parts)?;
            unread.push(computed);
            parts.enter(Part::Reading);
            self.read(&mut unread, self.device.unread_steps, progress)?;
            parts.enter(Part::Between);
            saved = false;
            if progress.step.is_multiple_of(per_epoch) {
                clock.report(epoch + 1, self.task, self.observer);
            }
            self.checkpointer.settle(false);
            self.observer.pass("trainer.step", progress.step);
        }
    }

    /// The order of an epoch that begins, or goes on with its example number `start`. `next` is the order of the one after
    /// it: announced an epoch ahead, so that its first batches are ready when it begins.
    fn enter(&mut self, epoch: u64, start: usize, next: &mut Option<Vec<usize>>) -> Result<Vec<usize>> {
        let Plan { examples, seed, batch_size, epochs, .. } = self.plan;
        let order_of = |epoch| epoch_order(examples, seed, epoch);
        let mut announce = |examples: &[usize], epoch| {
            self.task.announce(&mut examples.chunks(batch_size).map(<[usize]>::to_vec), epoch);
        };
        let order = if let Some(order) = next.take() {
            order
        } else {
            let order = order_of(epoch)?;
            announce(&order[start..], epoch);
            order
        };
        if epoch + 1 < epochs {
            let following = order_of(epoch + 1)?;
            announce(&following, epoch + 1);
            *next = Some(following);
        }
        Ok(order)
    }

    fn save(&mut self, progress: &RunProgress) -> Result<()> {
        let (best, examples) = (self.best.as_ref(), self.examples.as_deref());
        let state = State { table: self.table, optimizer: self.optimizer, best, examples };
        self.checkpointer.save(&state, progress)
    }

    fn is_out_of_patience(&self, progress: &RunProgress) -> bool {
        let since = progress.best.map_or(0, |best| best.since);
        progress.evaluated && self.patience.as_ref().is_some_and(|rule| since >= rule.patience)
    }

    /// Ends with the values of the best evaluation, where the run keeps them.
    fn end(&mut self, end: End) -> Result<End> {
        if let Some(best) = self.best.take() {
            self.table.put_back(&best)?;
        }
        Ok(end)
    }

    /// One optimizer step over `examples` of epoch `epoch`. It may be computed no sooner than its numbers are read.
    fn step(
        &mut self,
        examples: &[usize],
        epoch: u64,
        progress: &mut RunProgress,
        parts: &mut Parts<'_>,
    ) -> Result<Unread> {
        let batches: Vec<Vec<usize>> = examples.chunks(self.plan.batch_size).map(<[usize]>::to_vec).collect();
        let count: f64 = batches.iter().map(|batch| self.task.count(batch, epoch)).sum();
        let mut sums = Sums::default();
        self.observer.pass("trainer.begin", progress.step + 1);
        for i in 0..batches.len() {
            let seed = mix_all(&[self.plan.seed.cast_unsigned(), progress.step, i as u64]);
            let mode = Mode::train(seed).computing_again(self.plan.computed_again);
            parts.enter(Part::Forward);
            let (forward, counts) = self.task.forward(&mode)?;
            let mean = forward.loss_sum.f_div_scalar(count)?;
            parts.enter(Part::Backward);
            mean.f_backward()?;
            if batches.len() > 1 {
                self.table.accumulate_grads()?;
            }
            progress.trained_tokens += counts.tokens;
            sums.add(&mean, forward, counts.whole)?;
            self.observer.alive();
        }
        parts.enter(Part::Update);
        let norm = self.optimizer.grad_norm(self.table)?;
        self.optimizer.halt_unless_finite(&[sums.loss()?, &norm])?;
        let learning_rate = self.plan.schedule.learning_rate(progress.step);
        self.optimizer.step(self.table, learning_rate, &norm)?;
        progress.step += 1;
        progress.evaluated = false;
        let (step, trained_tokens, sent) = (progress.step, progress.trained_tokens, sums.send(&norm)?);
        Ok(Unread { step, learning_rate, trained_tokens, batches, sent })
    }

    /// Reads and reports the numbers of all steps but the last `most`.
    fn read(&mut self, unread: &mut Queue, most: usize, progress: &mut RunProgress) -> Result<()> {
        while let Some(told) = unread.read(most)? {
            if let Some(table) = &mut self.examples {
                let seen = told.seen.iter().filter_map(|(batch, seen)| Some((batch, seen.as_deref()?)));
                seen.for_each(|(batch, seen)| table.add(batch, seen));
            }
            progress.metrics = told.metrics;
            self.observer.report(TrainerMessage::Step(Step {
                step: told.step,
                epoch: told.step as f64 / self.plan.steps_per_epoch() as f64,
                seconds: told.seconds,
                peak_device_memory: self.device.peak_memory(),
                metrics: progress.metrics.clone(),
            }));
        }
        Ok(())
    }

    fn evaluate(&mut self, progress: &mut RunProgress) -> Result<()> {
        self.observer.report(TrainerMessage::Phase { phase: Phase::Evaluating });
        let evaluation = self.task.evaluate(Subset::Validation, self.observer)?;
        if let Some((metrics, scores)) = evaluation.map(|evaluation| (evaluation.metrics(), evaluation.scores)) {
            self.observer.report(TrainerMessage::Evaluated { step: progress.step, metrics: metrics.clone() });
            self.judge(&scores, progress)?;
            progress.metrics.extend(metrics);
        }
        progress.evaluated = self.observer.stop().is_none();
        self.observer.report(TrainerMessage::Phase { phase: Phase::Training });
        Ok(())
    }

    /// Compares an evaluation with the best one so far, as Transformers' `EarlyStoppingCallback` does.
    fn judge(&mut self, scores: &BTreeMap<Metric, f64>, progress: &mut RunProgress) -> Result<()> {
        let Some(rule) = &self.patience else { return Ok(()) };
        let Some(&value) = scores.get(&rule.metric) else { return Ok(()) };
        match &mut progress.best {
            Some(best) if rule.metric.gain(value, best.value) <= rule.min_delta => best.since += 1,
            _ => {
                progress.best = Some(Best { step: progress.step, value, since: 0 });
                self.best = Some(self.table.trained()?);
            }
        }
        Ok(())
    }
}
