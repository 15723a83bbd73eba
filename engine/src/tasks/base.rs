//! A text model as its folder has it, before a task builds on it.

use std::path::Path;

use tch::{Device, Kind};

use crate::error::Result;
use crate::models::read_config;
use crate::models::text::TextConfig;
use crate::params::{self, Builder, LoadReport, ParamTable, Placement};
use crate::policy::Policy;
use crate::text::{TextTokenizer, UNCUT};
use crate::weights::Weights;
use finetuned::domain::run::RunSpec;

/// Configuration, tokenizer and weights.
pub(super) struct TextBase {
    /// The text of its `config.json`.
    pub(super) json: String,
    pub(super) config: TextConfig,
    pub(super) tokenizer: TextTokenizer,
    pub(super) weights: Weights,
}

impl TextBase {
    /// The model that `spec` names, its texts cut to `max_sequence_length`.
    ///
    /// # Errors
    /// A file is missing or malformed, or the model has fewer positions.
    pub(super) fn open(spec: &RunSpec) -> Result<Self> {
        let longest = spec.hyperparameters.course.max_sequence_length;
        let base = Self::read(&spec.model, |_| longest as usize)?;
        base.config.check_length(longest)?;
        Ok(base)
    }

    /// The model that `spec` names, its texts read whole.
    ///
    /// # Errors
    /// A file is missing or malformed, or the model has fewer positions than `max_sequence_length`.
    pub(super) fn open_uncut(spec: &RunSpec) -> Result<Self> {
        let mut base = Self::read(&spec.model, |_| UNCUT)?;
        if spec.training.is_some() && spec.hyperparameters.tuning.adapter.is_continued() {
            base.weights = base.weights.with_adapter_apart()?;
        }
        base.config.check_length(spec.hyperparameters.course.max_sequence_length)?;
        Ok(base)
    }

    /// The model in `directory`, its weights without their values.
    ///
    /// # Errors
    /// A file is missing or malformed.
    pub(super) fn outline(directory: &Path) -> Result<Self> {
        let base = Self::read(directory, |config| usize::try_from(config.max_tokens()).unwrap_or(usize::MAX))?;
        Ok(Self { weights: base.weights.outline(), ..base })
    }

    fn read(directory: &Path, longest: impl FnOnce(&TextConfig) -> usize) -> Result<Self> {
        let json = read_config(directory)?;
        let config = TextConfig::parse(&json)?;
        let tokenizer = TextTokenizer::open(directory, longest(&config), config.vocab_size())?;
        let weights = Weights::open(directory, config.base_prefix())?;
        Ok(Self { json, config, tokenizer, weights })
    }

    /// What is trained of it: adapters go to query and value where nothing else is asked for, as PEFT puts them.
    pub(super) fn policy(&self, spec: &RunSpec) -> Policy {
        super::policy(spec, self.config.anatomy())
    }

    /// Builds `model` on it.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub(super) fn build<M>(
        &self,
        placement: Placement<'_>,
        model: impl FnOnce(&Builder<'_, '_>, &TextConfig) -> Result<M>,
    ) -> Result<(M, ParamTable, LoadReport)> {
        params::build(&self.weights, placement, |root| model(root, &self.config))
    }

    /// Whether `model` can be built on it.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub(super) fn check<M>(&self, model: impl FnOnce(&Builder<'_, '_>, &TextConfig) -> Result<M>) -> Result<()> {
        self.build(Placement::new(Device::Cpu, Kind::Float, 0), model).map(drop)
    }
}
