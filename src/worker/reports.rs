//! What a trainer reports, collected and written to the database once a second.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::protocol::LONGEST_MESSAGE;
use super::utilization::Utilization;
use crate::app::App;
use crate::db::queue::{self, Claim, Standing};
use crate::db::{self, attempts, events, metrics};
use crate::domain::Timestamp;
use crate::domain::checkpoint::{MetricRow, Metrics};
use crate::domain::clip::clipped_to;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::job::{Job, JobKind, Phase, Prepared};
use crate::domain::metric::{self, MODEL_FLOPS_UTILIZATION, PEAK_DEVICE_MEMORY, TOKENS_PER_SECOND, TRAINED_TOKENS};
use crate::domain::run::{Started, Step, TrainerMessage};
use crate::telemetry;

/// About how many steps of a run get an event of their own; every step is in the metrics.
const STEP_EVENTS: u64 = 100;

/// How long writing may hold up reading: what the trainer prints meanwhile waits in its pipe.
const WRITE: Duration = Duration::from_secs(3);

/// Values and events that wait to be written; while there are more, the rest waits in the trainer's pipe.
const MOST_VALUES: usize = 50_000;
const MOST_EVENTS: usize = 1_000;

/// Notices of one attempt that become events. Image runs have one an epoch, and a full disk makes one for each checkpoint.
const MOST_NOTICES: u32 = 200;
/// What a trainer calls the one GPU that it sees.
const CUDA: &str = "cuda";
/// Characters of a device's name.
const LONGEST_DEVICE: usize = 200;

/// Reports of one attempt that are not yet written.
pub(super) struct Reports {
    app: App,
    claim: Claim,
    prepared: Prepared,
    kind: JobKind,
    /// The GPU of its slot, if there are GPUs.
    gpu: Option<String>,
    rows: BTreeMap<u64, Metrics>,
    /// Values in `rows`.
    values: usize,
    events: Vec<NewEvent>,
    /// Whether the database did not answer when they were to be written last.
    is_away: bool,
    notices: u32,
    /// What the attempt started with, until it is written.
    started: Option<Started>,
    phase: Phase,
    step: u64,
    total_steps: u64,
    /// Smoothed wall-clock seconds of a step.
    seconds_per_step: Option<f64>,
    /// The last step that was told, and the tokens that the run had trained on by then.
    trained_tokens: Option<(u64, f64)>,
    utilization: Option<Utilization>,
    dirty: bool,
    pub(super) peak_memory: Option<u64>,
    pub(super) peak_device_memory: Option<u64>,
}

impl Reports {
    pub(super) fn new(app: App, claim: Claim, job: &Job, gpu: Option<String>) -> Result<Self> {
        let prepared = job.prepared.clone().ok_or_else(|| Error::internal("a queued job was not validated"))?;
        Ok(Self {
            app,
            claim,
            prepared,
            kind: job.spec.kind,
            gpu,
            rows: BTreeMap::new(),
            values: 0,
            events: Vec::new(),
            is_away: false,
            notices: 0,
            started: None,
            phase: Phase::Loading,
            step: 0,
            total_steps: 0,
            seconds_per_step: None,
            trained_tokens: None,
            utilization: None,
            dirty: true,
            peak_memory: None,
            peak_device_memory: None,
        })
    }

    /// Adds an event of the worker's own.
    pub(super) fn event(&mut self, event: NewEvent) {
        self.events.push(event);
    }

    /// Takes in a message of the trainer.
    pub(super) async fn take(&mut self, message: TrainerMessage) {
        self.dirty = true;
        match message {
            TrainerMessage::Started(started) => self.start(started),
            TrainerMessage::Phase { phase } => {
                // What people wait for is written at once: that training begins, and that it is over.
                let begins_or_ends = self.started.is_some() || self.phase == Phase::Training;
                let is_new = self.phase != phase;
                self.phase = phase;
                if is_new && begins_or_ends {
                    self.flush().await;
                }
            }
            TrainerMessage::Notice { warning, message } => {
                self.notices = self.notices.saturating_add(1);
                self.events.extend(notice(self.notices, warning, &message));
            }
            TrainerMessage::Step(step) => {
                let is_first = self.seconds_per_step.is_none();
                self.step(step);
                if is_first {
                    self.flush().await;
                }
            }
            TrainerMessage::Evaluated { step, metrics } => self.evaluated(step, metrics),
            // The supervisor handles these.
            TrainerMessage::Alive
            | TrainerMessage::Checkpoint { .. }
            | TrainerMessage::Finished(_)
            | TrainerMessage::Stopped { .. }
            | TrainerMessage::Failed { .. } => {}
        }
    }

    fn start(&mut self, mut started: Started) {
        self.prepared.hyperparameters.precision = started.precision;
        self.prepared.report.token_lengths = std::mem::take(&mut started.token_lengths);
        self.utilization = Utilization::of(&started);
        if let Some(gpu) = self.gpu.as_deref().filter(|_| started.device == CUDA) {
            started.device = format!("{CUDA}:{gpu}");
        }
        started.device = clipped_to(&started.device, LONGEST_DEVICE).into_owned();
        self.step = started.step;
        self.total_steps = started.total_steps;
        if started.step > 0 {
            let (noun, step, attempt) = (self.kind.noun(), started.step, self.claim.attempt);
            self.events.push(NewEvent::info(format!("{noun} goes on from step {step} (attempt {attempt})")));
        }
        let precision = json!(started.precision);
        let where_to = format!("{} on {}", precision.as_str().unwrap_or_default(), started.device);
        let Started { parameters, training_examples, total_steps, .. } = &started;
        let tokens = tokens_in_words(started.mean_tokens);
        self.events.push(NewEvent::info(match self.kind {
            JobKind::Evaluation => format!("Evaluating {parameters} parameters in {where_to}"),
            JobKind::Training => format!(
                "Training {parameters} parameters in {where_to}: {training_examples} examples{tokens}, {total_steps} \
                 steps"
            ),
        }));
        self.started = Some(started);
    }

    fn step(&mut self, step: Step) {
        ::metrics::counter!(telemetry::STEPS).increment(1);
        self.step = step.step;
        self.seconds_per_step =
            Some(self.seconds_per_step.map_or(step.seconds, |old| 0.95 * old + 0.05 * step.seconds));
        let every = (self.total_steps / STEP_EVENTS).max(1);
        if step.step.is_multiple_of(every) || step.step == self.total_steps {
            self.metrics_event(step.step, &step.metrics);
        }
        self.peak_device_memory = step.peak_device_memory.or(self.peak_device_memory);
        let rate = self.tokens_per_second(&step);
        let mut metrics = step.metrics;
        metrics.extend(rate.map(|rate| (TOKENS_PER_SECOND.to_owned(), rate)));
        let share = rate.zip(self.utilization).map(|(rate, of)| of.at(rate));
        metrics.extend(share.map(|share| (MODEL_FLOPS_UTILIZATION.to_owned(), share)));
        metrics.extend(step.peak_device_memory.map(|bytes| (PEAK_DEVICE_MEMORY.to_owned(), bytes as f64)));
        self.measured(step.step, metrics);
    }

    /// How fast a step was; None of the first one after a resume, of which it is not known how many tokens came before it.
    fn tokens_per_second(&mut self, step: &Step) -> Option<f64> {
        let tokens = *step.metrics.get(TRAINED_TOKENS)?;
        let before = self.trained_tokens.replace((step.step, tokens)).or((step.step == 1).then_some((0, 0.0)));
        let (_, before) = before.filter(|(last, _)| last + 1 == step.step)?;
        Some((tokens - before) / step.seconds).filter(|rate| rate.is_finite() && *rate > 0.0)
    }

    fn evaluated(&mut self, step: u64, metrics: Metrics) {
        self.metrics_event(step, &metrics);
        self.measured(step, metrics);
    }

    fn measured(&mut self, step: u64, metrics: Metrics) {
        self.values += metrics.len();
        self.rows.entry(step).or_default().extend(metrics);
    }

    /// Whether more may be taken in before what there is is written.
    pub(super) fn has_room(&self) -> bool {
        self.values < MOST_VALUES && self.events.len() < MOST_EVENTS
    }

    /// Whether it is the database's fault that there is no room.
    pub(super) fn waits_for_database(&self) -> bool {
        self.is_away && !self.has_room()
    }

    fn metrics_event(&mut self, step: u64, metrics: &Metrics) {
        let message = format!("Step {step}/{}: {}", self.total_steps, in_words(metrics));
        let mut data = json!({"step": step, "total_steps": self.total_steps});
        if let Value::Object(data) = &mut data {
            data.extend(with_openai_names(metrics).into_iter().map(|(name, value)| (name, json!(value))));
        }
        self.events.push(NewEvent::metrics(message, data));
    }

    /// The rows that are not written yet.
    pub(super) fn unwritten(&self) -> Vec<MetricRow> {
        self.rows.iter().map(|(&step, values)| MetricRow { step, values: values.clone() }).collect()
    }

    /// Writes what was collected, if the lease is still the claim's. What could not be written is kept for the next
    /// time: training goes on within its lease.
    pub(super) async fn flush(&mut self) {
        if !self.dirty && self.events.is_empty() {
            return;
        }
        match db::within(WRITE, db::retrying(|| self.write())).await {
            Ok(()) => {
                self.rows.clear();
                self.values = 0;
                self.events.clear();
                self.started = None;
                self.dirty = false;
                self.is_away = false;
            }
            Err(error) => {
                self.is_away = error.kind == ErrorKind::Unavailable;
                tracing::warn!(job = self.claim.public_id(), error = error.chain(), "reports could not be written");
            }
        }
    }

    async fn write(&self) -> Result<()> {
        let mut tx = self.app.db.begin().await?;
        if !queue::hold(tx.connection(), &self.claim).await? {
            return Ok(());
        }
        let connection = tx.connection();
        if let Some(started) = &self.started {
            attempts::started(&mut *connection, self.claim.job, self.claim.attempt, started.step, &started.device)
                .await?;
            queue::settle(connection, &self.claim, &self.prepared).await?;
        }
        let standing = Standing {
            phase: self.phase,
            step: self.step,
            total_steps: self.total_steps,
            estimated_finish: self.estimated_finish(),
        };
        queue::progress(connection, &self.claim, &standing).await?;
        metrics::upsert(&mut *connection, self.claim.job, self.claim.attempt, &self.unwritten()).await?;
        events::insert(&mut *connection, self.claim.job, &self.events).await?;
        tx.commit().await
    }

    fn estimated_finish(&self) -> Option<Timestamp> {
        finish_after(self.total_steps.saturating_sub(self.step) as f64 * self.seconds_per_step?)
    }
}

/// How long examples are; nothing of those that have no tokens, as images.
fn tokens_in_words(mean: f64) -> String {
    if mean > 0.0 { format!(" of {mean:.1} tokens on average") } else { String::new() }
}

/// So many seconds from now; None where the calendar has no such day.
fn finish_after(seconds: f64) -> Option<Timestamp> {
    Timestamp::now_utc().checked_add(time::Duration::checked_seconds_f64(seconds)?)
}

/// The event of an attempt's notice with this number, from 1; of too many the first alone, which says that it is one.
fn notice(number: u32, warning: bool, message: &str) -> Option<NewEvent> {
    let message = clipped_to(message, LONGEST_MESSAGE);
    match number {
        1..=MOST_NOTICES if warning => Some(NewEvent::warn(message)),
        1..=MOST_NOTICES => Some(NewEvent::info(message)),
        _ if number == MOST_NOTICES + 1 => Some(NewEvent::warn(format!(
            "The trainer has more to say than {MOST_NOTICES} notices; the rest is left out"
        ))),
        _ => None,
    }
}

/// Our metrics with OpenAI's names for the same things beside them.
pub(super) fn with_openai_names(metrics: &Metrics) -> Metrics {
    let mut named = metrics.clone();
    for (metric, split) in metric::by_split() {
        if let Some(&value) = metrics.get(&metric.on(split)) {
            named.extend(metric.openai_names(split).map(|name| (name, value)));
        }
    }
    named
}

fn in_words(metrics: &Metrics) -> String {
    let said = metric::by_split().filter_map(|(metric, split)| {
        let (words, value) = (metric.words(split)?, metrics.get(&metric.on(split))?);
        Some(format!("{words}={value:.4}"))
    });
    said.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{
        LONGEST_MESSAGE, MOST_NOTICES, Metrics, finish_after, in_words, notice, tokens_in_words, with_openai_names,
    };

    fn metrics(pairs: &[(&str, f64)]) -> Metrics {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn an_event_reads_like_openais() {
        let words = in_words(&metrics(&[("train_loss", 0.15), ("train_accuracy", 0.95), ("learning_rate", 1e-4)]));
        assert_eq!(words, "training loss=0.1500, training accuracy=0.9500");
    }

    #[test]
    fn only_what_has_tokens_is_said_to_have_some() {
        assert_eq!((&*tokens_in_words(7.25), &*tokens_in_words(0.0)), (" of 7.2 tokens on average", ""));
    }

    #[test]
    fn openais_names_stand_beside_ours() {
        let named = with_openai_names(&metrics(&[("full_valid_accuracy", 0.9)]));
        let expected = metrics(&[
            ("full_valid_accuracy", 0.9),
            ("full_valid_mean_token_accuracy", 0.9),
            ("valid_mean_token_accuracy", 0.9),
        ]);
        assert_eq!(named, expected);
    }

    #[test]
    fn notices_are_cut_and_beyond_some_left_out() {
        let long = notice(1, true, &"x".repeat(3 << 20)).unwrap();
        assert_eq!(long.message.chars().count(), LONGEST_MESSAGE + 1);
        assert_eq!(notice(MOST_NOTICES, false, "said").unwrap().message, "said");
        let last = notice(MOST_NOTICES + 1, false, "said").unwrap();
        assert!(last.message.contains("the rest is left out"), "{}", last.message);
        assert_eq!(notice(MOST_NOTICES + 2, false, "said"), None);
    }

    #[test]
    fn a_finish_beyond_the_calendar_is_none() {
        assert!(finish_after(60.0).is_some());
        for seconds in [1e15, 1e18, f64::MAX, f64::INFINITY, f64::NAN] {
            assert_eq!(finish_after(seconds), None, "{seconds}");
        }
    }
}
