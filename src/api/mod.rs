//! The HTTP API: the only floor that knows axum. One file per resource; `openapi.yaml` is the contract.

mod archive;
mod body;
mod chat_completions;
mod classifications;
mod completions;
mod connections;
mod context;
mod dataset_body;
mod dry_run;
mod evaluation_view;
mod evaluations;
mod example_view;
mod extract;
mod fields;
mod files;
mod form_heads;
mod generation;
mod graders;
mod grading;
mod job_body;
mod job_view;
mod jobs;
mod linger;
mod list;
mod models;
mod multipart;
mod operations;
mod pace;
mod previews;
mod problem;
mod query;
mod rate_limit;
mod route;
mod server;
mod stream;
mod texts;
mod unread;
mod uploads;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::catch_panic::CatchPanicLayer;

pub use pace::Pace;
pub use route::Route;
pub use server::{ConnectionLimits, serve};

use crate::app::App;
use context::Operation;
use operations::Readiness;
use rate_limit::RateLimit;

/// The largest JSON body, in bytes, unless its route says otherwise.
const MAX_JSON_BYTES: usize = 1 << 20;

/// What handlers work on. Each request clones it a few times.
#[derive(Clone)]
pub struct ApiState(Arc<Shared>);

/// What all requests share.
pub struct Shared {
    app: App,
    prometheus: PrometheusHandle,
    rate_limit: RateLimit,
    readiness: Readiness,
    shown_jobs: jobs::Shown,
    bodies: Arc<body::Gate>,
}

impl ApiState {
    /// State for a service over `app`.
    pub fn new(app: App, prometheus: PrometheusHandle) -> Self {
        let rate_limit = RateLimit::new(app.config.rate_limit);
        let (readiness, shown_jobs, bodies) = (Readiness::default(), jobs::shown(&app), Arc::default());
        Self(Arc::new(Shared { app, prometheus, rate_limit, readiness, shown_jobs, bodies }))
    }
}

impl Deref for ApiState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Every route of the service, in the order of `openapi.yaml`.
pub fn routes() -> Vec<Route> {
    let resources = [
        operations::routes(),
        files::routes(),
        uploads::routes(),
        jobs::routes(),
        previews::routes(),
        graders::routes(),
        evaluations::routes(),
        models::routes(),
        classifications::routes(),
        chat_completions::routes(),
        completions::routes(),
    ];
    resources.into_iter().flatten().collect()
}

/// The service.
pub fn router(state: ApiState) -> Router {
    assemble(routes(), state)
}

/// What a worker without an API shows of itself: health and metrics.
pub fn operations_router(state: ApiState) -> Router {
    assemble(operations::routes(), state)
}

fn assemble(routes: Vec<Route>, state: ApiState) -> Router {
    let mut router = Router::new();
    for route in routes {
        let handler = match route.time_limit {
            Some(limit) => route.handler.layer(middleware::from_fn_with_state(limit, pace::limit_time)),
            None => route.handler,
        };
        let handler = match route.query {
            Some(known) => handler.layer(middleware::from_fn_with_state(known, query::check)),
            None => handler,
        };
        let operation = Operation { id: route.operation, route: route.path, is_change: route.is_change };
        let handler = handler.layer(middleware::from_fn_with_state(operation, context::name));
        router = router.route(route.path, handler);
    }
    router
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        .layer(middleware::from_fn(pace::keep_pace))
        .layer(CatchPanicLayer::custom(problem::from_panic))
        .layer(middleware::from_fn(context::track))
        .with_state(state)
}
