//! What pages and upkeep read, of rows and of entries of indexes: as much as a page needs, however many rows there are, and
//! whatever the planner knows of them.

use std::collections::BTreeMap;
use std::time::Duration;

use finetuned::db::job_pages::{self, Filter, MetadataFilter};
use finetuned::db::{Connection, attempts, checkpoints, events, files, jobs, metrics, models, queue};
use finetuned::domain::Timestamp;
use finetuned::domain::file::FilePurpose;
use finetuned::domain::id::{CheckpointId, EventId, FileId, JobId, ProjectId};
use finetuned::domain::job::{JobKind, JobStatus};
use finetuned::domain::page::{Order, PageRequest};
use sqlx::Executor;
use uuid::Uuid;

use super::support::service::Service;

/// How many rows of each kind there are in the project that is asked for, and as many in others.
const ROWS: u128 = 10_000;
const LIMIT: u32 = 20;
/// What a page may read. Of a list of jobs: in each of the seven statuses an entry, a row and its index's entry for each job
/// of the page; these rows, their models and attempts again.
const MOST: i64 = 7 * 3 * (LIMIT as i64 + 1) + 300;

/// Where several lists are asked for, what is counted of two of them, and what of the shorter one does not fit.
const COUNTED: i64 = 2 * 2 * 500 + 3 * 500;

const ACME: Uuid = Uuid::from_u128(1);
const OTHERS: Uuid = Uuid::from_u128(2);

/// The job that has all events, metrics and checkpoints.
const LONG: Uuid = Uuid::from_u128(1 << 64 | 2);

/// Rows by their number: even ones are of the project that is asked for.
fn numbered(number: u128) -> Uuid {
    Uuid::from_u128(1 << 64 | number)
}

/// Fills a database. Of the jobs a hundredth failed, and few are being validated; these are the oldest, as are those of one
/// model and of one metadata.
async fn fill(db: &mut Connection) {
    let id = "('00000000-0000-0001-' || lpad(to_hex(i >> 48), 4, '0') || '-' || lpad(to_hex(i), 12, '0'))::uuid";
    let project = format!("case when i % 2 = 0 then '{ACME}' else '{OTHERS}' end::uuid");
    let rows = format!("from generate_series(1, {}::bigint) as i", 2 * ROWS);
    let status = "case when i < 40 then 'validating_files' when i % 200 < 2 then 'failed' else 'cancelled' end";
    let base = "00000000-0000-0000-0000-0000000000ba";
    let statements = [
        format!("insert into projects (id, name) values ('{ACME}', 'large'), ('{OTHERS}', 'others')"),
        format!("insert into models (id, name, kind, family, facts, deleted_at, swept_at)
             values ('{base}', 'base', 'base', 'bert', '{{}}', now(), now())"),
        format!(
            "insert into files (id, project_id, purpose, filename, bytes, sha256, object_key, deleted_at, swept_at)
             select {id}, {project}, case when i < 20 then 'vision' else 'fine-tune' end, 'x', 1,
                    decode(repeat('00', 32), 'hex'), i::text,
                    case when i % 8 = 4 then now() end, case when i % 8 = 4 then now() end {rows}"
        ),
        format!(
            "insert into jobs (id, project_id, kind, status, model, base_model_id, training_file_id, method, hyperparameters,
                               dataset, seed, name_tag, metadata, request_hash, prepared, error, finished_at)
             select {id}, {project}, 'training', {status}, case when i < 60 then 'rare' else 'base' end, '{base}',
                    {id}, 'text_classification', '{{}}', '{{}}', 1, 'aaaaaaaa',
                    case when i < 80 then '{{\"era\": \"old\"}}' when i % 4 = 0 then '{{\"team\": \"a\", \"run\": \"1\"}}'
                         when i % 3 = 0 then '{{\"team\": \"b\"}}' end::jsonb,
                    decode(lpad(to_hex(i), 64, '0'), 'hex'), null,
                    case when i >= 40 and i % 200 < 2 then '{{\"code\": \"x\", \"message\": \"y\"}}'::jsonb end,
                    case when i >= 40 then now() - interval '1 day' end {rows}"
        ),
        format!("update jobs set status = 'cancelled', finished_at = now() where id between '{}' and '{}'", numbered(20), numbered(39)),
        format!(
            "insert into models (id, project_id, name, kind, family, facts, job_id, deleted_at, swept_at)
             select {id}, {project}, i::text, 'checkpoint', 'bert', '{{}}', '{LONG}',
                    case when i % 8 = 4 then now() end, case when i % 8 = 4 then now() end {rows}"
        ),
        format!(
            "insert into checkpoints (id, job_id, step, attempt, model_id, metrics, dropped_at, resumable)
             select {id}, case when i % 2 = 0 then '{LONG}'::uuid else {id} end, i, 1, {id}, '{{}}',
                    case when i % 8 = 4 then now() end, false {rows}"
        ),
        format!(
            "insert into events (id, job_id, level, kind, message)
             select {id}, case when i % 2 = 0 then '{LONG}'::uuid else {id} end, 'info', 'message', 'x' {rows}"
        ),
        format!(
            "insert into metrics (job_id, step, attempt, measured)
             select case when i % 2 = 0 then '{LONG}'::uuid else {id} end, i, 1, '{{}}' {rows}"
        ),
        "insert into workers (id, host) values ('00000000-0000-0000-0000-0000000000aa', 'x')".to_owned(),
        format!(
            "insert into attempts (job_id, attempt, worker_id, host, lease_token, ended_at, outcome)
             select {id}, 1, '00000000-0000-0000-0000-0000000000aa', 'x', {id}, now(), 'crashed' {rows}"
        ),
    ];
    for statement in statements {
        db.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
}

/// Rows and entries of indexes that this transaction has read, of each table and index.
async fn read(db: &mut Connection) -> BTreeMap<String, i64> {
    let all = "select relname::text, pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid)
               from pg_class where relkind in ('r', 'i') and relnamespace = 'public'::regnamespace";
    sqlx::query_as::<_, (String, i64)>(all).fetch_all(db).await.unwrap().into_iter().collect()
}

/// Does it so often that PostgreSQL keeps one plan for all arguments if it ever does.
macro_rules! reads_little {
    ($db:expr, $most:expr, $what:expr, $work:expr) => {
        for time in 0..8 {
            let before = read($db).await;
            $work.await.unwrap();
            let mut read = read($db).await;
            for (name, count) in &mut read {
                *count -= before[name];
            }
            read.retain(|_, count| *count > 0);
            assert!(read.values().sum::<i64>() <= $most, "{}, time {time}: {read:?}", $what);
        }
    };
}

fn pages<T: Copy>(middle: T) -> Vec<PageRequest<T>> {
    let orders = [Order::Ascending, Order::Descending];
    let of = |order| [None, Some(middle)].map(|after| PageRequest { after, limit: LIMIT, order });
    orders.into_iter().flat_map(of).collect()
}

/// Whether it asks for several things that there are lists of.
fn is_compound(filter: &Filter) -> bool {
    let pairs = if let MetadataFilter::Has(pairs) = &filter.metadata { pairs.len() } else { 1 };
    let of_metadata = if matches!(filter.metadata, MetadataFilter::All) { 0 } else { pairs };
    of_metadata + usize::from(filter.model.is_some()) > 1
}

fn has(pairs: &[(&str, &str)]) -> MetadataFilter {
    MetadataFilter::Has(
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
    )
}

fn filters() -> Vec<Filter> {
    let metadata = [
        MetadataFilter::All,
        MetadataFilter::None,
        has(&[("team", "a")]),
        has(&[("era", "old")]),
        has(&[("era", "none")]),
    ];
    let statuses = [None, Some(JobStatus::Failed), Some(JobStatus::ValidatingFiles), Some(JobStatus::Running)];
    let models = [None, Some("base"), Some("rare")];
    let mut filters = Vec::new();
    for metadata in metadata {
        for status in statuses {
            for model in models {
                filters.push(Filter { metadata: metadata.clone(), status, model: model.map(str::to_owned) });
            }
        }
    }
    filters.push(Filter { metadata: has(&[("team", "a"), ("run", "1")]), ..Filter::default() });
    filters.push(Filter { metadata: has(&[("team", "a"), ("era", "old")]), ..Filter::default() });
    filters
}

/// A database with many rows, of which the planner knows or not.
async fn filled(is_known: bool) -> Service {
    let service = Service::api().await;
    let mut tx = service.app.db.begin().await.unwrap();
    fill(tx.connection()).await;
    tx.commit().await.unwrap();
    if is_known {
        service.app.db.pool().execute("vacuum analyze").await.unwrap();
    }
    service
}

async fn pages_read_little(is_known: bool) {
    let service = filled(is_known).await;
    let mut tx = service.app.db.begin().await.unwrap();
    let db = tx.connection();
    let (acme, middle) = (ProjectId(ACME), numbered(ROWS));
    for filter in filters() {
        let most = MOST + if is_compound(&filter) { COUNTED } else { 0 };
        for page in pages(JobId(middle)) {
            let what = format!("{filter:?} {page:?}");
            reads_little!(db, most, what, job_pages::list(db, acme, JobKind::Training, &filter, page));
        }
    }
    for page in pages(FileId(middle)) {
        for purpose in [None, Some(FilePurpose::FineTune), Some(FilePurpose::Vision), Some(FilePurpose::Batch)] {
            // The indexes of all files and of those of a purpose look alike until statistics tell them apart.
            if purpose.is_some() && !is_known {
                continue;
            }
            reads_little!(db, MOST, format!("{purpose:?} {page:?}"), files::list(&mut *db, acme, purpose, page));
        }
    }
    let long = JobId(LONG);
    for page in pages(EventId(middle)) {
        reads_little!(db, MOST, format!("{page:?}"), events::list(&mut *db, long, page));
    }
    for page in pages(CheckpointId(middle)) {
        reads_little!(db, MOST, format!("{page:?}"), checkpoints::list(&mut *db, long, page));
    }
    for page in pages(ROWS as u64) {
        reads_little!(db, MOST, format!("metrics {page:?}"), metrics::list(&mut *db, long, page));
    }
    reads_little!(db, MOST, "models", models::list(&mut *db, Some(acme)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_what_it_needs_where_the_planner_knows_the_rows() {
    pages_read_little(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_what_it_needs_where_the_planner_knows_nothing() {
    pages_read_little(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_reads_nothing_of_what_has_ended() {
    let service = filled(true).await;
    let mut tx = service.app.db.begin().await.unwrap();
    let db = tx.connection();
    let (now, soon) = (Timestamp::now_utc(), Duration::from_mins(1));
    reads_little!(db, MOST, "abandoned", attempts::end_abandoned(&mut *db));
    reads_little!(db, MOST, "checkpoints of ended jobs", checkpoints::drop_older(&mut *db, Duration::from_hours(100)));
    reads_little!(db, MOST, "training states", checkpoints::states_to_sweep(&mut *db, 100));
    reads_little!(db, MOST, "files", files::to_sweep(&mut *db, 100));
    reads_little!(db, MOST, "models", models::to_sweep(&mut *db, 100));
    reads_little!(db, MOST, "open jobs", jobs::count_open(&mut *db));
    reads_little!(db, MOST, "ended jobs", jobs::count_ended(&mut *db, now - soon, now));
    reads_little!(db, MOST, "waits", jobs::longest_waits(&mut *db));
    reads_little!(db, MOST, "without worker", queue::waiting_without_worker(&mut *db, soon, 100));
    reads_little!(db, MOST, "orphans", queue::next_orphan(&mut *db, None));
}

/// Whatever is asked for, what a page has is what all jobs have of it, in order.
#[tokio::test(flavor = "multi_thread")]
async fn lists_have_the_jobs_that_fit_and_no_others() {
    let service = filled(false).await;
    let mut tx = service.app.db.begin().await.unwrap();
    let db = tx.connection();
    let all: Vec<(Uuid, String, String, Option<serde_json::Value>)> =
        sqlx::query_as("select id, status, model, metadata from jobs where project_id = $1 order by id")
            .bind(ACME)
            .fetch_all(&mut *db)
            .await
            .unwrap();
    for filter in filters() {
        let fits = |(id, status, model, metadata): &(Uuid, String, String, Option<serde_json::Value>)| {
            let metadata_fits = match &filter.metadata {
                MetadataFilter::All => true,
                MetadataFilter::None => metadata.is_none(),
                MetadataFilter::Has(pairs) => {
                    pairs.iter().all(|(key, value)| metadata.as_ref().is_some_and(|has| has[key] == **value))
                }
            };
            let status_fits = filter.status.is_none_or(|asked| asked.as_str() == status);
            let model_fits = filter.model.as_ref().is_none_or(|asked| asked == model);
            (metadata_fits && status_fits && model_fits).then_some(*id)
        };
        let mut expected: Vec<Uuid> = all.iter().filter_map(fits).collect();
        for order in [Order::Ascending, Order::Descending] {
            let mut after = None;
            for expected in expected.chunks(LIMIT as usize).take(3) {
                let page = PageRequest { after, limit: LIMIT, order };
                let page = job_pages::list(db, ProjectId(ACME), JobKind::Training, &filter, page).await.unwrap();
                let found: Vec<Uuid> = page.items.iter().map(|job| job.id.0).collect();
                assert_eq!(found, expected, "{filter:?} {order:?} {after:?}");
                after = page.items.last().map(|job| job.id);
            }
            if expected.is_empty() {
                let page = PageRequest { after: None, limit: LIMIT, order };
                assert!(
                    job_pages::list(db, ProjectId(ACME), JobKind::Training, &filter, page)
                        .await
                        .unwrap()
                        .items
                        .is_empty()
                );
            }
            expected.reverse();
        }
    }
}
