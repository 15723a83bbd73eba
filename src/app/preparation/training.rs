//! Preparing a training: its files against each other, and its hyperparameters.

use super::files::Files;
use super::{Preparing, Reads, Refusal, devices, placed, settle};
use crate::app::App;
use crate::dataset::prepare::{self, Found, Wanted};
use crate::domain::error::Error;
use crate::domain::estimate;
use crate::domain::hyperparameters::{DataFacts, Hyperparameters, Subject};
use crate::domain::id::ProjectId;
use crate::domain::job::{JobError, JobSpec, Prepared};
use crate::domain::method::language::GRADIENT_CHECKPOINTING;
use crate::domain::model::Model;
use crate::domain::report::{DataReport, Note};

/// As [`prepare`](super::prepare), for a training of `model`.
pub(super) async fn prepare(
    app: &App,
    project: ProjectId,
    spec: &JobSpec,
    model: &Model,
    reads: Reads,
) -> Preparing<Prepared> {
    let Found { mut report, problem, labels, .. } = read(app, project, spec, reads).await?;
    let labels = labels.map_err(|error| Refusal::of_files(error, &report))?;
    let data = DataFacts { training_examples: report.training_examples(), problem };
    let hyperparameters = settle(spec, model, data).map_err(|error| Refusal::of_files(error, &report))?;
    check_stopping(&hyperparameters, &report).map_err(|error| Refusal::of_files(error, &report))?;
    report.notes.extend(likely_cut(&report, hyperparameters.course.max_sequence_length, model.facts.max_positions));
    let (machines, device) = devices(app).await?;
    let subject = Subject { method: spec.method, facts: &model.facts };
    let predict = |h: &Hyperparameters| estimate::estimate(subject, h, &report, labels.len() as u64, device);
    let hyperparameters = if spec.hyperparameters.is_auto(GRADIENT_CHECKPOINTING.name) {
        fitting(hyperparameters, model.facts.layers, |h| estimate::shortage(&predict(h), &machines).is_none())
    } else {
        hyperparameters
    };
    let estimate = predict(&hyperparameters);
    Ok(placed(Prepared { hyperparameters, labels, report, estimate: Some(estimate) }, &machines)?)
}

/// With as few of the model's layers computed again as the run fits with, or all of them, where the method can do so.
fn fitting(h: Hyperparameters, layers: u32, fits: impl Fn(&Hyperparameters) -> bool) -> Hyperparameters {
    if !h.own.has(GRADIENT_CHECKPOINTING.name) {
        return h;
    }
    let with = |again: u32| Hyperparameters {
        own: h.own.clone().with(GRADIENT_CHECKPOINTING.name, again.into()),
        ..h.clone()
    };
    (0..layers).map(with).find(|h| fits(h)).unwrap_or_else(|| with(layers))
}

/// What there is to say where many texts are likely longer than is kept of them. A run says how many are.
fn likely_cut(report: &DataReport, longest: u32, most: u32) -> Option<Note> {
    const MANY: f64 = 0.1;
    let share = estimate::truncated_share(report.training.text_lengths(), longest);
    let remedy = if longest < most {
        format!("a larger max_sequence_length keeps more, of this model up to {most}")
    } else {
        "the model takes no more, but what long texts have behind can be given in texts of their own".to_owned()
    };
    (share >= MANY).then(|| {
        let message = format!(
            "About {:.0} % of the training texts are likely longer than the {longest} tokens that are kept of each, going by \
             their characters; {remedy}.",
            100.0 * share
        );
        Note::warning("likely_truncated", message)
    })
}

/// Whether there is something by which a run can be stopped early, where it is to be.
fn check_stopping(hyperparameters: &Hyperparameters, report: &DataReport) -> Result<(), JobError> {
    if hyperparameters.course.early_stopping.patience().is_none() || report.validation_examples() > 0 {
        return Ok(());
    }
    let message = "Early stopping needs validation data, and there is none: give a validation_file or a \
                   dataset.validation_split above 0, or leave early_stopping out.";
    Err(JobError::new("invalid_hyperparameter", message).param("hyperparameters.early_stopping"))
}

/// Reads the files; of those that were read before, what was found is taken.
async fn read(app: &App, project: ProjectId, spec: &JobSpec, reads: Reads) -> Preparing<Found> {
    let mut files = Files::find(app, project, spec).await?;
    let problem = spec.hyperparameters.problem_type();
    let near = app.config.near_duplicate_percent;
    let wanted = Wanted { method: spec.method, problem, options: spec.dataset.clone(), near };
    // What is left out is found among the examples, which are not kept.
    if reads == Reads::Unknown && !wanted.drops_overlap() {
        files.look_up().await?;
    }
    let (bounds, _guard) = app.bounds(project);
    let mut opened = Vec::new();
    let sources = files.sources(&bounds, &mut opened).await?;
    let reading = move || {
        let _opened = opened;
        prepare::prepare(sources, &wanted)
    };
    let found = tokio::task::spawn_blocking(reading).await.map_err(Error::internal)?.map_err(Error::internal)?;
    files.keep(&found.readings).await;
    Ok(found)
}
