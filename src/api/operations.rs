//! Routes for whoever operates the service. They need no key.

use std::time::Instant;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::ApiState;
use super::problem::Answer;
use super::route::{Route, get};
use crate::app::App;
use crate::domain::error::Error;

pub(super) fn routes() -> Vec<Route> {
    let routes = [
        get("/healthz", "get_health", get_health),
        get("/readyz", "get_readiness", get_readiness),
        get("/metrics", "get_service_metrics", get_service_metrics),
        get("/openapi.yaml", "get_openapi", get_openapi),
    ];
    routes.into_iter().map(Route::with_any_query).collect()
}

async fn get_health() -> axum::Json<Value> {
    axum::Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

/// What the latest look at database and store found. Requests that come while one looks share the next look.
#[derive(Default)]
pub(super) struct Readiness(Mutex<Option<Look>>);

struct Look {
    began: Instant,
    /// What is away, for the log.
    found: Result<(), String>,
}

impl Readiness {
    async fn check(&self, app: &App) -> Result<(), String> {
        let came = Instant::now();
        let mut latest = self.0.lock().await;
        if let Some(look) = &*latest
            && look.began >= came
        {
            return look.found.clone();
        }
        let began = Instant::now();
        let found = match app.db.ping().await {
            Ok(()) => app.store.check().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.chain()),
        };
        *latest = Some(Look { began, found: found.clone() });
        found
    }
}

async fn get_readiness(State(state): State<ApiState>) -> Answer<axum::Json<Value>> {
    state.readiness.check(&state.app).await.map_err(Error::unavailable)?;
    Ok(axum::Json(json!({"status": "ready"})))
}

async fn get_service_metrics(State(state): State<ApiState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.prometheus.render())
}

async fn get_openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/yaml")], include_str!("../../openapi.yaml"))
}
