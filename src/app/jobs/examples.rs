//! The examples that a job was trained on, with what its forward passes said of them: those that may be labelled wrongly
//! first.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::example_table::{Labelled, Table};
use super::get;
use crate::app::App;
use crate::app::objects::Object;
use crate::db::{checkpoints, jobs, models};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::example::columns::{CHECKPOINT_FILE, MODEL_FILE};
use crate::domain::example::{ExampleOrder, ExampleStatistics, Rank};
use crate::domain::id::ProjectId;
use crate::domain::job::{Job, JobKind};
use crate::domain::model::{Model, ModelFile};
use crate::domain::page::Page;
use crate::domain::report::Place;

/// The labels of all examples of a page together, at most, but for those of its first example.
const MOST_LABELS: usize = 10_000;

/// Examples that are looked up side by side.
const SIDE_BY_SIDE: usize = 16;

/// Which examples are asked for.
#[derive(Clone, Copy, Debug)]
pub struct ExamplesRequest {
    /// The number of the last example of the page before.
    pub after: Option<u64>,
    pub limit: u32,
    /// None for margins where the examples have labels, for losses where they have values.
    pub order: Option<ExampleOrder>,
}

/// A training example.
#[derive(Debug)]
pub struct Example {
    /// Its number among the training examples, from 0.
    pub number: u64,
    pub place: Place,
    pub target: Target,
    pub statistics: ExampleStatistics,
}

/// What an example is labelled, and what was predicted last; nothing before the first epoch that counts.
#[derive(Debug)]
pub enum Target {
    Label {
        label: String,
        prediction: Option<String>,
    },
    Labels {
        labels: Vec<String>,
        /// The label that the model agreed with least: one of them that it would leave out, or another that it would add.
        disputed: Option<String>,
    },
    Value {
        value: f64,
        prediction: Option<f32>,
    },
}

/// One page of the examples of a project's job, from its model or, until that is there, from its latest checkpoint.
///
/// # Errors
/// There is no such job, it has no statistics (yet), or the request fits no such examples.
pub async fn examples(app: &App, project: ProjectId, id: &str, request: ExamplesRequest) -> Result<Page<Example>> {
    let job = get(app, project, JobKind::Training, id).await?;
    let (model, file) = source(app, &job).await?;
    let _place = app.reading.enter(project).await?;
    let table = Table::open(app, Object::of_model(&model, &file)).await?;
    let order = order(request.order, table.has_labels())?;
    let after = match request.after {
        None => None,
        Some(number) => Some(table.rank(order, number).await?.ok_or_else(|| no_such_example(number))?),
    };
    let first = table.first(order, after, request.limit as usize + 1).await?;
    let page = Page::from_rows(first.into_iter().collect(), request.limit);
    let (count, has_more) = (page.items.len(), page.has_more);
    let found = found(&table, page.items).await?;
    let has_more = has_more || found.len() < count;
    let numbers: BTreeSet<u32> = found.iter().flat_map(Found::numbers).collect();
    let names = jobs::label_names(app.db.pool(), job.id, &numbers.into_iter().collect::<Vec<_>>()).await?;
    let items = found.into_iter().map(|found| found.named(&names)).collect::<Result<_>>()?;
    Ok(Page { items, has_more })
}

/// An example whose labels are numbers.
struct Found {
    number: u64,
    place: Place,
    labelled: Labelled,
    statistics: ExampleStatistics,
}

/// Looks the chosen examples up, as many of them as fit on a page.
async fn found(table: &Table<'_>, chosen: Vec<(Rank, ExampleStatistics)>) -> Result<Vec<Found>> {
    let look_up = |(Rank { number, .. }, statistics)| async move {
        let (place, labelled) = (table.place(number).await?, table.labelled(number).await?);
        Ok::<_, Error>(Found { number, place, labelled, statistics })
    };
    let mut looked_up = stream::iter(chosen).map(look_up).buffered(SIDE_BY_SIDE);
    let (mut page, mut labels) = (Vec::new(), 0);
    while let Some(found) = looked_up.try_next().await? {
        labels += found.numbers().count();
        if labels > MOST_LABELS && !page.is_empty() {
            break;
        }
        page.push(found);
    }
    Ok(page)
}

/// The order that is asked for, if examples with labels or values can be in it.
fn order(asked: Option<ExampleOrder>, has_labels: bool) -> Result<ExampleOrder> {
    match asked {
        None if has_labels => Ok(ExampleOrder::Margin),
        None => Ok(ExampleOrder::Loss),
        Some(order) if has_labels || order == ExampleOrder::Loss => Ok(order),
        Some(order) => {
            let (order, loss) = (order.as_str(), ExampleOrder::Loss.as_str());
            let message = format!(
                "Invalid value for 'order': '{order}' is for labels, and the job predicts values. Allowed: {loss}."
            );
            Err(Error::invalid("order", message))
        }
    }
}

fn no_such_example(number: u64) -> Error {
    let message = format!("Invalid value for 'after': '{number}' is no id of an item of this list.");
    Error::invalid("after", message)
}

/// The model that has the job's statistics, and the file that they are in.
async fn source(app: &App, job: &Job) -> Result<(Model, ModelFile)> {
    let pool = app.db.pool();
    let kept = job.prepared.as_ref().map(|prepared| &prepared.hyperparameters.own);
    if let Some(why) = kept.and_then(|own| (job.spec.method.card().without_examples)(own)) {
        return Err(none(&format!("The job keeps no statistics of its examples: {why}.")));
    }
    let (model, path) = if let Some(name) = &job.fine_tuned_model {
        let model = models::find(pool, job.project, name).await?;
        (model.ok_or_else(|| none("The job's statistics were deleted with its model."))?, MODEL_FILE)
    } else if job.status.is_terminal() {
        let message = format!("The job has no statistics of its examples: it is {}, and has no model.", job.status);
        return Err(none(&message));
    } else {
        let latest = checkpoints::resumable(pool, job.id).await?.into_iter().next();
        let model = match latest {
            Some((_, id)) => models::find_by_id(pool, id).await?,
            None => None,
        };
        let message = "The job has no statistics of its examples yet: they come with its first checkpoint.";
        (model.ok_or_else(|| none(message))?, CHECKPOINT_FILE)
    };
    let files = models::files(pool, model.id).await?;
    let file = files.into_iter().find(|file| file.path == path).ok_or_else(|| {
        none("The job has no statistics of its examples: the version of the service that trained it kept none.")
    })?;
    Ok((model, file))
}

fn none(message: &str) -> Error {
    Error::new(ErrorKind::NotFound, message).param(JobKind::Training.param()).code("examples_not_found")
}

impl Found {
    /// The numbers of its labels, and of the one that was predicted.
    fn numbers(&self) -> impl Iterator<Item = u32> {
        let (labels, predicted) = match &self.labelled {
            Labelled::One(label) => (std::slice::from_ref(label), Some(self.statistics.prediction as u32)),
            Labelled::Several(labels) => (&labels[..], Some(self.statistics.prediction as u32)),
            Labelled::Value(_) => (&[][..], None),
        };
        labels.iter().copied().chain(predicted)
    }

    fn named(self, names: &BTreeMap<u32, String>) -> Result<Example> {
        let Self { number, place, labelled, statistics } = self;
        let named = |label: u32| {
            let unknown = || Error::internal(format!("the statistics name label {label}, which the job does not have"));
            names.get(&label).cloned().ok_or_else(unknown)
        };
        let said = Some(statistics.prediction).filter(|_| statistics.epochs > 0);
        let predicted = || said.map(|label| named(label as u32)).transpose();
        let target = match labelled {
            Labelled::One(label) => Target::Label { label: named(label)?, prediction: predicted()? },
            Labelled::Several(labels) => {
                let labels = labels.into_iter().map(named).collect::<Result<_>>()?;
                Target::Labels { labels, disputed: predicted()? }
            }
            Labelled::Value(value) => Target::Value { value, prediction: said },
        };
        Ok(Example { number, place, target, statistics })
    }
}
