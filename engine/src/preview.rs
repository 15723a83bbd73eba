//! What a model will read of examples: tokenizer and chat template at work, without weights.

use std::fs;
use std::path::Path;

use crate::error::{EngineError, Result};
use crate::models::read_config;
use crate::models::text::TextConfig;
use crate::tasks;
use crate::text::{TextTokenizer, UNCUT};
use finetuned::dataset::preview::PreviewSpec;
use finetuned::domain::preview::{Preview, Previewed};

/// What the trainer says to a spec file, whatever is wrong. The model's path is taken from the file's own folder.
pub fn preview(spec: &Path) -> Previewed {
    examine(spec).map_or_else(|error| Previewed::Failed(error.job_error()), Previewed::Examples)
}

fn examine(path: &Path) -> Result<Vec<Preview>> {
    let text = fs::read(path).map_err(EngineError::io(path))?;
    let mut spec: PreviewSpec = serde_json::from_slice(&text)
        .map_err(|error| EngineError::native(format!("the preview's spec is malformed: {error}")))?;
    spec.model = path.parent().unwrap_or(Path::new(".")).join(&spec.model);
    let config = TextConfig::parse(&read_config(&spec.model)?)?;
    config.check_length(spec.hyperparameters.course.max_sequence_length)?;
    let tokenizer = TextTokenizer::open(&spec.model, UNCUT, config.vocab_size())?;
    tasks::preview(&spec, &tokenizer)
}
