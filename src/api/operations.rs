//! Routes for whoever operates the service. They need no key.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::ApiState;
use super::problem::Answer;
use super::route::{Route, get};
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

async fn get_readiness(State(state): State<ApiState>) -> Answer<axum::Json<Value>> {
    let database = tokio::time::timeout(Duration::from_secs(2), state.app.db.ping()).await;
    database.map_err(|_| Error::unavailable("the database does not answer within 2 s"))??;
    state.app.store.check().await.map_err(Error::unavailable)?;
    Ok(axum::Json(json!({"status": "ready"})))
}

async fn get_service_metrics(State(state): State<ApiState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.prometheus.render())
}

async fn get_openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/yaml")], include_str!("../../openapi.yaml"))
}
