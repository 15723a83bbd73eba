//! Pages of a project's jobs.

use std::collections::BTreeMap;

use futures_util::Stream;
use serde_json::{Value, json};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::job_rows::{Row, select};
use super::{jobs, pages, to_json};
use crate::domain::error::Result;
use crate::domain::grading::Grading;
use crate::domain::id::{JobId, ProjectId};
use crate::domain::job::{DatasetOptions, Job, JobError, JobKind, JobStatus, Prepared};
use crate::domain::page::{Order, Page, PageRequest};
use crate::domain::report::DataReport;

/// Which jobs a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub metadata: MetadataFilter,
    pub status: Option<JobStatus>,
    /// The model that a job starts from.
    pub model: Option<String>,
}

/// Which jobs a list shows, by their metadata.
#[derive(Clone, Debug, Default)]
pub enum MetadataFilter {
    #[default]
    All,
    /// Jobs without metadata.
    None,
    /// Jobs with all of these pairs.
    Has(BTreeMap<String, String>),
}

/// How far lists are counted to find the shortest of several: beyond that, each is taken for long.
const COUNTED: i64 = 500;

/// Of a page's rows: the columns of any length.
macro_rules! select_page {
    ([$($from:literal),*], $($argument:expr),* $(,)?) => {
        select!(
            r#"octet_length(j.hyperparameters::text) + octet_length(j.dataset::text)
               + coalesce(octet_length(j.grading::text), 0)
               + coalesce(octet_length((j.prepared -> 'hyperparameters')::text), 0)
               + coalesce(octet_length(j.evaluation::text), 0)"#,
            "(j.prepared - 'labels' - 'report')",
            "null::jsonb",
            [$($from),*],
            $($argument),*
        )
    };
}

/// A page of all jobs of a kind, in one order: a stretch of the index that has them.
macro_rules! select_all {
    ($behind:literal, $order:literal, $($argument:expr),* $(,)?) => {
        select_page!(
            [
                r#"
                jobs j left join models m on m.id = j.fine_tuned_model_id
                where j.project_id = $1 and j.kind = $2 and j.id "#,
                $behind,
                " $3 order by j.id ",
                $order,
                " limit $4"
            ],
            $($argument),*
        )
    };
}

/// A page of a list of jobs, in one order: of each status the next that fit, and of those the first. `offset 0` keeps the
/// planner from joining otherwise than along the list, row by row, whatever it thinks of how many there are.
macro_rules! select_listed {
    ($behind:literal, $order:literal, $($argument:expr),* $(,)?) => {
        select_page!(
            [
                r#"
                (
                    select next.job_id
                    from unnest($4::text[]) as asked (status)
                    cross join lateral (
                        select l.job_id
                        from job_listings l
                        cross join lateral (
                            select from jobs
                            where id = l.job_id and project_id = $1 and kind = $2
                              and ($7::text is null or model = $7)
                              and (not $8 or metadata is null) and ($9::jsonb is null or metadata @> $9)
                            offset 0
                        ) fits
                        where l.list = job_list($1, $3) and l.status = asked.status and l.job_id "#,
                $behind,
                " $5 order by l.job_id ",
                $order,
                r#" limit $6
                    ) next
                    order by next.job_id "#,
                $order,
                r#" limit $6
                ) page
                cross join lateral (select * from jobs where id = page.job_id offset 0) j
                left join models m on m.id = j.fine_tuned_model_id
                order by page.job_id "#,
                $order
            ],
            $($argument),*
        )
    };
}

/// One page of a project's jobs of that kind with their attempts, without the reports on their files. It takes as long as it
/// is large, however many jobs there are; where several things are asked for at once, as long as the shortest list of those
/// that have one of them.
pub async fn list(
    db: &mut PgConnection,
    project: ProjectId,
    kind: JobKind,
    filter: &Filter,
    page: PageRequest<JobId>,
) -> Result<Page<Job>> {
    let about = filter.lists(kind);
    let mut jobs = if about.is_empty() {
        all(db, project, kind, page).await?
    } else {
        let statuses = filter.statuses();
        let list = shortest(db, project, about, &statuses).await?;
        listed(db, project, kind, filter, &statuses, &list, page).await?
    };
    jobs::add_attempts(db, &mut jobs.items).await?;
    Ok(jobs)
}

impl Filter {
    /// What the lists are of that have all of these jobs, and perhaps more; none where that is every job.
    fn lists(&self, kind: JobKind) -> Vec<Value> {
        let kind = kind.as_str();
        let model = self.model.iter().map(|model| json!({"kind": kind, "model": model}));
        let metadata = match &self.metadata {
            MetadataFilter::All => Vec::new(),
            MetadataFilter::None => vec![json!({"kind": kind, "metadata": null})],
            MetadataFilter::Has(pairs) => {
                pairs.iter().map(|(key, value)| json!({"kind": kind, "metadata": {key: value}})).collect()
            }
        };
        let mut lists: Vec<Value> = model.chain(metadata).collect();
        if lists.is_empty() && self.status.is_some() {
            lists.push(json!({"kind": kind}));
        }
        lists
    }

    fn statuses(&self) -> Vec<String> {
        let all = JobStatus::ALL.into_iter().filter(|status| self.status.is_none_or(|asked| asked == *status));
        all.map(|status| status.as_str().to_owned()).collect()
    }
}

/// Of several lists the one with the fewest jobs in these statuses.
async fn shortest(
    db: &mut PgConnection,
    project: ProjectId,
    mut lists: Vec<Value>,
    statuses: &[String],
) -> Result<Value> {
    let place = if lists.len() == 1 {
        1
    } else {
        let query = sqlx::query_scalar!(
            r#"
            select place as "place!"
            from unnest($2::jsonb[]) with ordinality as list (about, place)
            cross join lateral (
                select count(*) as jobs
                from (
                    select from unnest($3::text[]) as asked (status)
                    cross join lateral (
                        select from job_listings l
                        where l.list = job_list($1, list.about) and l.status = asked.status
                        order by l.job_id limit $4
                    ) listed
                    limit $4
                ) few
            ) counted
            order by counted.jobs, place limit 1
            "#,
            project.0,
            &lists,
            statuses,
            COUNTED
        );
        query.fetch_one(db).await?
    };
    Ok(lists.swap_remove(place as usize - 1))
}

async fn all(db: &mut PgConnection, project: ProjectId, kind: JobKind, page: PageRequest<JobId>) -> Result<Page<Job>> {
    let (after, kind) = (after(page), kind.as_str());
    match page.order {
        Order::Ascending => collect(select_all!(">", "asc", project.0, kind, after, page.rows()).fetch(db), page).await,
        Order::Descending => {
            collect(select_all!("<", "desc", project.0, kind, after, page.rows()).fetch(db), page).await
        }
    }
}

async fn listed(
    db: &mut PgConnection,
    project: ProjectId,
    kind: JobKind,
    filter: &Filter,
    statuses: &[String],
    list: &Value,
    page: PageRequest<JobId>,
) -> Result<Page<Job>> {
    let (without, has) = match &filter.metadata {
        MetadataFilter::All => (false, None),
        MetadataFilter::None => (true, None),
        MetadataFilter::Has(pairs) => (false, Some(to_json(pairs)?)),
    };
    let (after, rows, kind, model) = (after(page), page.rows(), kind.as_str(), filter.model.as_deref());
    // Each order is a query of its own, since each goes along the index.
    match page.order {
        Order::Ascending => {
            let rows = select_listed!(">", "asc", project.0, kind, list, statuses, after, rows, model, without, has);
            collect(rows.fetch(db), page).await
        }
        Order::Descending => {
            let rows = select_listed!("<", "desc", project.0, kind, list, statuses, after, rows, model, without, has);
            collect(rows.fetch(db), page).await
        }
    }
}

/// Behind which id a page begins. There always is one: a bound that may be missing is none for an index.
fn after(page: PageRequest<JobId>) -> Uuid {
    let none = match page.order {
        Order::Ascending => Uuid::nil(),
        Order::Descending => Uuid::max(),
    };
    page.after.map_or(none, |id| id.0)
}

async fn collect(rows: impl Stream<Item = sqlx::Result<Row>>, page: PageRequest<JobId>) -> Result<Page<Job>> {
    pages::collect(rows, page.limit, |row| i64::from(row.bytes), Job::try_from).await
}
