//! Logs and metrics of the service itself. Labels come from closed sets: nobody can make a series by inventing a word.

mod backlog;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use self::backlog::Backlog;
use crate::config::Config;

/// The target of the lines that say who changed what, so that they can be kept apart from the others.
pub const AUDIT: &str = "audit";

/// What a metric is, as Prometheus has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
    Histogram,
}

/// A metric of the service.
pub struct Metric {
    pub name: &'static str,
    r#type: Type,
    /// What it counts, and its labels.
    pub doc: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $type:ident, $name:literal, $doc:literal;)*) => {
        $(#[doc = $doc] pub const $constant: &str = $name;)*

        /// All metrics.
        pub const METRICS: &[Metric] = &[$(Metric { name: $name, r#type: Type::$type, doc: $doc }),*];
    };
}

metrics! {
    HTTP_REQUESTS = Counter, "finetuned_http_requests_total", "Requests answered, by method, route and status";
    HTTP_SECONDS = Histogram, "finetuned_http_request_duration_seconds",
        "Seconds from a request's head to its answer's head, by route";
    UPLOADED_BYTES = Counter, "finetuned_uploaded_bytes_total", "Bytes of uploads stored";
    ORPHANS = Counter, "finetuned_orphaned_objects_total", "Objects removed because no row names them";
    ORPHAN_PASSES_STOPPED = Counter, "finetuned_orphan_passes_stopped_total",
        "Looks for objects without a row that removed none, since the store or too many rows did not fit the database";
    DAMAGED_OBJECTS = Counter, "finetuned_damaged_objects_total",
        "Objects that were missing or damaged when they were read, by fault";
    JOBS = Gauge, "finetuned_jobs", "Jobs of all projects, by kind (training, evaluation) and status";
    LONGEST_WAIT = Gauge, "finetuned_jobs_longest_wait_seconds",
        "Seconds for which the first job that waits has waited, by status";
    QUEUE_WAIT = Histogram, "finetuned_queue_wait_seconds", "Seconds from a job's place in the queue to its claim, by kind";
    JOB_SECONDS = Histogram, "finetuned_job_duration_seconds", "Seconds from a job's creation to its end, by kind and status";
    JOB_ENDS = Counter, "finetuned_job_ends_total", "Jobs ended, by kind, status and cause (the code of their error, or none)";
    ATTEMPTS = Counter, "finetuned_attempts_total", "Attempts ended on this worker, by kind, outcome and cause";
    RUNNING = Gauge, "finetuned_attempts_running", "Attempts running on this worker, by kind";
    LEASES = Gauge, "finetuned_leases_held", "Leases that this worker keeps, by kind";
    LEASES_LOST = Counter, "finetuned_leases_lost_total", "Leases that this worker could not keep, by kind";
    PROCESSES = Gauge, "finetuned_processes", "Processes of the training program at work here, by kind (training, waiting, serving)";
    WORKERS = Gauge, "finetuned_workers", "Workers that were there within the last minute";
    DISK_FREE = Gauge, "finetuned_disk_free_bytes", "Bytes free where things are kept, by place (state, store, runs)";
    STEPS = Counter, "finetuned_training_steps_total", "Optimizer steps done on this worker";
    LOG_LINES_LOST = Counter, "finetuned_log_lines_lost_total",
        "Log lines that were lost because nobody read the log or it could not be written";
}

/// Bounds of the buckets of requests.
const REQUEST_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Bounds of the buckets of jobs.
const JOB_BUCKETS: &[f64] =
    &[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4.0 * 3600.0, 24.0 * 3600.0, 7.0 * 24.0 * 3600.0];

/// How often what histograms were told is added up; until then each observation takes memory of its own.
const FOLD: Duration = Duration::from_secs(5);

/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Why logs cannot be written as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("FINETUNED_LOG (--log) is {0:?}; expected levels, for all or as target=level, separated by commas")]
    Filter(String),
    #[error("no thread can be had for the log: {0}")]
    Thread(std::io::Error),
}

/// The lines of this process on their way to standard error.
static BACKLOG: OnceLock<Backlog> = OnceLock::new();

/// Writes logs to standard error as the configuration says. Only the first call of a process has an effect.
///
/// # Errors
/// The filter is malformed, or the system gives no thread.
pub fn init_logs(config: &Config) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&config.log).map_err(|_| LogError::Filter(config.log.clone()))?;
    if BACKLOG.get().is_some() {
        return Ok(());
    }
    let backlog = Backlog::start(std::io::stderr()).map_err(LogError::Thread)?;
    let backlog = BACKLOG.get_or_init(|| backlog).clone();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_timer(SystemTime);
    let builder = builder.with_writer(move || backlog.clone());
    // Complaining of a line that is lost would go where lines go, and wait or panic.
    let builder = builder.log_internal_errors(false);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    if config.log_json {
        let _ = builder.json().try_init();
    } else {
        let _ = builder.with_target(false).try_init();
    }
    Ok(())
}

/// Waits a moment for the lines that are not written yet, before the process ends.
pub fn flush_logs() {
    if let Some(backlog) = BACKLOG.get() {
        backlog.settle(LAST_LINES);
    }
}

/// Starts collecting metrics; the handle renders them. A process has one recorder, so later calls give a handle to the
/// same.
pub fn init_metrics() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(record).clone()
}

fn record() -> PrometheusHandle {
    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in [(HTTP_SECONDS, REQUEST_SECONDS), (QUEUE_WAIT, JOB_BUCKETS), (JOB_SECONDS, JOB_BUCKETS)] {
        // Fails for want of bounds alone.
        builder = builder
            .set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
            .unwrap_or_else(|_| PrometheusBuilder::new());
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        describe();
        fold(handle.clone());
    }
    handle
}

/// Keeps the memory of histograms bounded whether or not anybody asks for the metrics.
fn fold(handle: PrometheusHandle) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FOLD).await;
            handle.run_upkeep();
        }
    });
}

fn describe() {
    for Metric { name, r#type, doc } in METRICS {
        match r#type {
            Type::Counter => metrics::describe_counter!(*name, *doc),
            Type::Gauge => metrics::describe_gauge!(*name, *doc),
            Type::Histogram => metrics::describe_histogram!(*name, *doc),
        }
    }
}

/// Counts in a gauge as long as it lives.
pub struct OneMore(metrics::Gauge);

impl OneMore {
    /// One more of `kind` in the gauge called `name`.
    pub fn of(name: &'static str, kind: &'static str) -> Self {
        let gauge = metrics::gauge!(name, "kind" => kind);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The line of a change that the operator made, from the command line or by starting the service.
pub fn audit_operator(action: &'static str, project: Option<&str>, resource: &str) {
    tracing::info!(target: AUDIT, action, by = "operator", project, resource, outcome = "done", "audit");
}
