//! Whether a folder is a model that can be trained, and by which methods: everything of loading but the values.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Result;
use crate::models::{ModelConfig, read_config};
use crate::tasks;
use crate::weights::Weights;
use finetuned::domain::method::METHODS;
use finetuned::domain::model::Checked;

/// What becomes of the model in `directory` in a job. Of its weights names, shapes and types are looked at.
pub fn check(directory: &Path) -> Checked {
    examine(directory).unwrap_or_else(|error| Checked::Refused(error.job_error().message))
}

fn examine(directory: &Path) -> Result<Checked> {
    let json = read_config(directory)?;
    let family = crate::models::config::model_type(&json)?;
    let mut facts = ModelConfig::parse(&json)?.facts();
    facts.parameters = Weights::open(directory, "")?.values();
    let methods: Vec<_> = METHODS.into_iter().filter(|method| method.supports(facts.backbone)).collect();
    let mut unfit = BTreeMap::new();
    for &method in &methods {
        if let Err(error) = tasks::check(method, directory) {
            unfit.insert(method, error.job_error().message);
        }
    }
    if let Some((_, why)) = unfit.first_key_value().filter(|_| unfit.len() == methods.len()) {
        return Ok(Checked::Refused(why.clone()));
    }
    facts.unfit = unfit;
    Ok(Checked::Trainable { family, facts })
}
