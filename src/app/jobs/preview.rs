//! What a model would read of a job's first examples.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::create::{CreateJob, check};
use crate::app::preparation::{self, Refusal};
use crate::app::tally::Share;
use crate::app::{App, models, quotas, trainer};
use crate::dataset::preview::PreviewSpec;
use crate::domain::error::{Error, Result};
use crate::domain::hyperparameters::Hyperparameters;
use crate::domain::id::ProjectId;
use crate::domain::job::JobSpec;
use crate::domain::method::{METHODS, Method};
use crate::domain::model::Model;
use crate::domain::preview::{Preview, Previewed};
use crate::domain::report::Fault;
use crate::private;

/// The longest line of an answer: long examples, a token at a time.
const LONGEST_LINE: usize = 64 << 20;

/// What is shown of a job.
#[derive(Debug)]
pub struct JobPreview {
    pub spec: JobSpec,
    pub hyperparameters: Hyperparameters,
    /// By line; those that are faulty say so.
    pub examples: Vec<Preview>,
    /// It counts as a dry run under way while this is held.
    pub counted: Share,
}

/// Shows what the model reads of the first `count` examples of the job that `request` asks for, and creates nothing.
///
/// # Errors
/// Something in the request is not allowed or does not exist; the error names the field. Or there is nothing to see of the
/// method, or the project has as many dry runs at once as it may.
pub async fn preview(app: &App, project: ProjectId, request: CreateJob, count: usize) -> Result<JobPreview> {
    let spec = check(app, project, request).await?;
    let counted = quotas::admit_dry_run(app, project).await?;
    let _place = app.reading.enter(project).await?;
    let model = models::get(app, project, &spec.model).await?;
    let first = match preparation::preview::first(app, project, &spec, &model, count).await {
        Ok(first) => first.ok_or_else(|| nothing_to_see(spec.method))?,
        Err(not_ready) => return Err(refused(not_ready.refused()?)),
    };
    let (hyperparameters, first) = first;
    let asked = PreviewSpec {
        method: spec.method,
        model: PathBuf::from("model"),
        hyperparameters: hyperparameters.clone(),
        examples: first.examples,
    };
    let mut examples = ask(app, &model, &asked).await?;
    examples.extend(first.faults.into_iter().map(faulty));
    examples.sort_by_key(|example| example.line);
    Ok(JobPreview { spec, hyperparameters, examples, counted })
}

fn faulty(fault: Fault) -> Preview {
    let problem = match fault.field {
        Some(field) => format!("is faulty: {field} {}", fault.message),
        None => format!("is faulty: {}", fault.message),
    };
    Preview { line: fault.line, sequences: Vec::new(), problem: Some(problem) }
}

fn nothing_to_see(method: Method) -> Error {
    let language: Vec<&str> =
        METHODS.into_iter().filter(|method| is_of_language_models(*method)).map(Method::as_str).collect();
    let message = format!("There is no preview of the method '{method}'. Methods with one: {}.", language.join(", "));
    Error::invalid("method.type", message)
}

fn is_of_language_models(method: Method) -> bool {
    method.card().backbones.iter().all(|backbone| backbone.is_language_model())
}

fn refused(refusal: Refusal) -> Error {
    let error = refusal.error;
    Error::invalid(error.param.unwrap_or_else(|| "training_file".to_owned()), error.message)
}

async fn ask(app: &App, model: &Model, asked: &PreviewSpec) -> Result<Vec<Preview>> {
    let premises =
        app.premises().await.map_err(|why| Error::unavailable(format!("no trainer can show examples: {why}")))?;
    let work = app.runs().join(Uuid::new_v4().simple().to_string());
    let answered = match prepare(app, model, asked, &work).await {
        Ok(()) => trainer::ask(app, &premises, &work, &["preview", "spec.json"], LONGEST_LINE).await,
        Err(error) => Err(error),
    };
    if let Err(error) = tokio::fs::remove_dir_all(&work).await {
        tracing::debug!(%error, "the folder of a preview stays");
    }
    match answered? {
        Previewed::Examples(examples) => Ok(examples),
        Previewed::Failed(error) => match error.param {
            Some(param) => Err(Error::invalid(param, format!("{}.", error.message))),
            None => Err(Error::unavailable(error.message)),
        },
    }
}

/// Fills the folder `work` with the model's files but its weights, and the spec.
async fn prepare(app: &App, model: &Model, asked: &PreviewSpec, work: &Path) -> Result<()> {
    let directory = work.join("model");
    private::make_folder(&directory, private::FOLDER).map_err(Error::internal)?;
    let mut files = models::loaded_from(app, model.id).await?;
    files.retain(|file| !file.path.ends_with(".safetensors"));
    models::fetch(app, model, &files, &directory).await?;
    let text = serde_json::to_vec(asked).map_err(Error::internal)?;
    tokio::fs::write(work.join("spec.json"), text).await.map_err(Error::internal)
}
