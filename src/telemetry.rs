//! Logs and metrics of the service itself.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::config::Config;

/// Requests answered, by route, method and status.
pub const HTTP_REQUESTS: &str = "finetuned_http_requests_total";
/// Seconds from a request's head to its answer's head.
pub const HTTP_SECONDS: &str = "finetuned_http_request_seconds";
/// Bytes of uploads stored.
pub const UPLOADED_BYTES: &str = "finetuned_uploaded_bytes_total";
/// Objects removed because no row names them.
pub const ORPHANS: &str = "finetuned_orphaned_objects_total";
/// Jobs in each status.
pub const JOBS: &str = "finetuned_jobs";
/// Attempts ended on this worker, by outcome.
pub const ATTEMPTS: &str = "finetuned_attempts_total";
/// Attempts running on this worker.
pub const RUNNING: &str = "finetuned_attempts_running";
/// Optimizer steps done on this worker.
pub const STEPS: &str = "finetuned_training_steps_total";

/// Writes logs to standard error as the configuration says. Only the first call of a process has an effect.
pub fn init_logs(config: &Config) {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let stderr = std::io::stderr;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_timer(SystemTime);
    let builder = builder.with_ansi(stderr().is_terminal());
    if config.log_json {
        let _ = builder.json().try_init();
    } else {
        let _ = builder.with_target(false).try_init();
    }
}

/// Starts collecting metrics; the handle renders them. Only one recorder can be installed in a process, so later calls
/// give a handle to a recorder of their own that nothing writes to.
pub fn init_metrics() -> PrometheusHandle {
    const BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(HTTP_SECONDS.to_owned()), BUCKETS)
        .unwrap_or_else(|_| PrometheusBuilder::new());
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    let _ = metrics::set_global_recorder(recorder);
    describe();
    handle
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(HTTP_REQUESTS, "Requests answered, by route, method and status");
    describe_histogram!(HTTP_SECONDS, "Seconds from a request's head to its answer's head");
    describe_counter!(UPLOADED_BYTES, "Bytes of uploads stored");
    describe_counter!(ORPHANS, "Objects removed because no row names them");
    describe_gauge!(JOBS, "Jobs in each status");
    describe_counter!(ATTEMPTS, "Attempts ended on this worker, by outcome");
    describe_gauge!(RUNNING, "Attempts running on this worker");
    describe_counter!(STEPS, "Optimizer steps done on this worker");
}
