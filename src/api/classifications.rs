//! `/v1/classifications`: trying a classifier.

use axum::Json;
use axum::extract::State;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::body;
use super::extract::{Caller, JsonBody};
use super::fields::{missing, required};
use super::problem::Answer;
use super::route::{Route, post};
use crate::app::serving::{self, Classify};
use crate::domain::error::Result;
use crate::domain::serving::{LabelScore, Prediction};

/// The largest body, in bytes: images come in base64.
const MAX_BYTES: usize = 16 << 20;

pub(super) fn routes() -> Vec<Route> {
    let create = post("/v1/classifications", "create_classification", create_classification);
    vec![create.with_body_limit(MAX_BYTES).with_patience().without_change()]
}

/// As sent, but for what `input` is: that is read when the model is known. Any field may be null, which is the same as
/// absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassifyBody {
    model: Option<String>,
    input: Option<IgnoredAny>,
    top_k: Option<u64>,
}

impl ClassifyBody {
    fn into_request(self) -> Result<Classify> {
        let model = required("model", self.model)?;
        if self.input.is_none() {
            return Err(missing("input"));
        }
        Ok(Classify { model, top_k: self.top_k })
    }
}

#[derive(Serialize)]
struct Classifications {
    object: &'static str,
    model: String,
    data: Vec<Classification>,
    usage: Usage,
}

/// What the model says of one input; fields that its problem type does not have are absent.
#[derive(Serialize)]
struct Classification {
    object: &'static str,
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<LabelScore>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    truncated: bool,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

impl Classification {
    fn new(index: usize, prediction: Prediction) -> Self {
        let Prediction { label, probability, predicted, labels, value, truncated, .. } = prediction;
        Self { object: "classification", index, label, probability, predicted, labels, value, truncated }
    }
}

async fn create_classification(
    caller: Caller,
    State(state): State<ApiState>,
    body: JsonBody<ClassifyBody>,
) -> Answer<Json<Classifications>> {
    let JsonBody { value, bytes, held: _held } = body;
    let chosen = serving::choose(&state.app, caller.0.id, value.into_request()?).await?;
    let is_vision = chosen.model.facts.backbone.is_vision();
    let input = body::aside(bytes.len(), move || serving::read_inputs(&bytes, is_vision)).await??;
    let (model, predictions) = serving::classify(&state.app, chosen, input).await?;
    let tokens = predictions.iter().map(|prediction| prediction.tokens).sum();
    let data = predictions.into_iter().enumerate().map(|(index, one)| Classification::new(index, one)).collect();
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    Ok(Json(Classifications { object: "list", model: model.name, data, usage }))
}
