//! Language models upon one base, whose weights are held once: the one that was opened, and those that were loaded beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::Kind;

use super::language_model::LanguageModel;
use super::{Model, not_asked};
use crate::device::{ComputeDevice, compute_kind};
use crate::error::{EngineError, Result};
use crate::generate::Memory;
use crate::models::read_config;
use crate::models::text::{CausalLm, TextConfig};
use crate::params::{self, ParamTable, Placement};
use crate::policy::{NOTHING, Policy};
use crate::weights::{Upon, Weights, adapter_in, ground_of};
use finetuned::domain::hyperparameters::Precision;
use finetuned::domain::serving::{Answered, Loading, PromptTokens, Question, Refusal};

/// The models of a process.
pub(super) struct SharedBase {
    /// Where the weights lie that all have.
    ground: PathBuf,
    device: ComputeDevice,
    compute: Kind,
    first: LanguageModel,
    /// The parameters of the first one: others take the base's from here.
    table: ParamTable,
    loaded: BTreeMap<String, LanguageModel>,
    /// What all of them have read.
    memory: Memory,
    /// How many models there have been: each has a number in the memory.
    count: u64,
}

impl SharedBase {
    /// Opens the model in `directory`.
    ///
    /// # Errors
    /// Its files cannot be used.
    pub(super) fn open(
        directory: &Path,
        config: &TextConfig,
        device: ComputeDevice,
        precision: Precision,
    ) -> Result<Self> {
        let (ground, compute) = (ground_of(directory), compute_kind(device.precision(precision)));
        let (model, table) = build(&ground, directory, config, None, Placement::new(device.device, compute, 0))?;
        let first = LanguageModel::open(directory, config, model, 0)?;
        let (loaded, memory) = (BTreeMap::new(), Memory::default());
        Ok(Self { ground, device, compute, first, table, loaded, memory, count: 1 })
    }

    /// Loads another model upon the same base.
    fn load(&mut self, asked: &Loading) -> Result<()> {
        let config = TextConfig::parse(&read_config(&asked.directory)?)?;
        let placement = Placement::new(self.device.device, self.compute, 0);
        let (model, _) = build(&self.ground, &asked.directory, &config, Some(&self.table), placement)?;
        let model = LanguageModel::open(&asked.directory, &config, model, self.count)?;
        self.count += 1;
        self.loaded.insert(asked.name.clone(), model);
        Ok(())
    }

    fn unload(&mut self, name: &str) {
        if let Some(model) = self.loaded.remove(name) {
            self.memory.forget(model.number());
        }
    }
}

/// The model in `directory` upon the weights in `ground`. An adapter stays beside the layers, so that their weights are the
/// base's, which `beside` has already; where it cannot, since PEFT knows adapters that are not built here, it is merged into
/// those that it is for.
fn build(
    ground: &Path,
    directory: &Path,
    config: &TextConfig,
    beside: Option<&ParamTable>,
    placement: Placement<'_>,
) -> Result<(CausalLm, ParamTable)> {
    // Weights of its own have the adapter in them that lies beside them.
    let is_whole = ground == directory;
    let adapter = if is_whole { None } else { adapter_in(directory)? };
    let prefix = config.base_prefix();
    let weights =
        || if is_whole { Weights::open(directory, prefix) } else { Weights::open_upon(ground, directory, prefix) };
    if let Some(Upon { lora: Some(lora), .. }) = adapter {
        let policy = Policy::at_work(lora, config.anatomy());
        let apart = weights()?.with_adapter_apart().and_then(|weights| {
            let placement = Placement { policy: &policy, ..placement };
            params::build_beside(beside, &weights, placement, |root| CausalLm::new(root, config))
        });
        match apart {
            Ok((model, table, report)) if report.unused.iter().all(|name| !name.contains(".lora_")) => {
                return Ok((model, table));
            }
            Ok(_) | Err(EngineError::Model { .. } | EngineError::Hyperparameter { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let placement = Placement { policy: &NOTHING, ..placement };
    let (model, table, _) = params::build_beside(beside, &weights()?, placement, |root| CausalLm::new(root, config))?;
    Ok((model, table))
}

impl Model for SharedBase {
    fn answer(&mut self, name: Option<&str>, question: &Question, tell: &mut dyn FnMut(Answered)) -> Result<Answered> {
        let model = match name {
            None => &self.first,
            Some(name) => {
                let found = self.loaded.get(name);
                found.ok_or_else(|| EngineError::native(format!("the model {name} is not loaded")))?
            }
        };
        match question {
            Question::Classify(_) => Ok(not_asked("POST /v1/chat/completions and POST /v1/completions")),
            Question::Read(prompt) => Ok(match model.read(prompt)? {
                Ok(ids) => Answered::Tokens(PromptTokens { ids, longest: model.longest() }),
                Err(refusal) => Answered::Error(refusal),
            }),
            Question::Generate(asked) => model.write(&mut self.memory, asked, tell),
            Question::Load(loading) => Ok(match self.load(loading) {
                Ok(()) => Answered::Done,
                Err(EngineError::Model { message }) => {
                    Answered::Error(Refusal { param: Some("model".to_owned()), message })
                }
                Err(error) => return Err(error),
            }),
            Question::Unload(name) => {
                self.unload(name);
                Ok(Answered::Done)
            }
        }
    }
}
