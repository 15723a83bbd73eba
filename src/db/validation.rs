//! Jobs whose files are being validated.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::queue::choose_in_turn;
use super::{Db, interval};
use crate::domain::error::Result;
use crate::domain::id::JobId;

/// The right to validate a job's files, as long as it is renewed.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub job: JobId,
    /// How often the job was taken by readers that came to no end, this time included.
    pub tries: u32,
    pub(super) token: Uuid,
}

/// Takes the next job whose files are to be validated, for as long as `lease`. Of each project one job is validated at a
/// time; the project whose turn was longest ago comes first.
pub async fn take(db: &Db, lease: Duration) -> Result<Option<Taken>> {
    let mut tx = db.begin().await?;
    choose_in_turn(tx.connection(), "validation").await?;
    let token = Uuid::new_v4();
    let row = sqlx::query!(
        r#"
        with turns as (
            select first.id
            from projects p
            cross join lateral (
                select id from jobs
                where project_id = p.id and status = 'validating_files' and run_after <= now()
                order by id limit 1
            ) first
            where not exists (
                select from jobs
                where project_id = p.id and validation_token is not null and run_after > now()
            )
            order by p.validated_at nulls first, first.id
        ),
        candidate as (
            select free.id
            from turns cross join lateral (
                select id from jobs where id = turns.id and status = 'validating_files' for update skip locked
            ) free
            limit 1
        ),
        taken as (
            update jobs
            set run_after = clock_timestamp() + $1, validation_token = $2, validation_tries = validation_tries + 1
            where id in (select id from candidate)
            returning id, project_id, validation_tries
        ),
        turned as (
            update projects set validated_at = clock_timestamp() where id in (select project_id from taken)
        )
        select id, validation_tries from taken
        "#,
        interval(lease),
        token
    )
    .fetch_optional(&mut *tx.connection())
    .await?;
    tx.commit().await?;
    Ok(row.map(|row| Taken { job: JobId(row.id), tries: row.validation_tries.unsigned_abs(), token }))
}

/// Keeps a job for another `lease`; false if it was cancelled or is another's.
pub async fn renew(db: impl PgExecutor<'_>, taken: &Taken, lease: Duration) -> Result<bool> {
    let done = sqlx::query!(
        "update jobs set run_after = clock_timestamp() + $3 where id = $1 and validation_token = $2",
        taken.job.0,
        taken.token,
        interval(lease)
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Locks the job until the transaction ends; false if it was cancelled or is another's.
pub async fn hold(db: &mut PgConnection, taken: &Taken) -> Result<bool> {
    let row = sqlx::query!(
        "select id from jobs where id = $1 and validation_token = $2 for no key update",
        taken.job.0,
        taken.token
    )
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// Gives a job back, to be taken again after `delay`. Where it `counts`, this was one of its tries.
pub async fn give_back(db: impl PgExecutor<'_>, taken: &Taken, delay: Duration, counts: bool) -> Result<()> {
    sqlx::query!(
        r#"
        update jobs
        set validation_token = null, run_after = now() + $3,
            validation_tries = validation_tries - case when $4 then 0 else 1 end
        where id = $1 and validation_token = $2
        "#,
        taken.job.0,
        taken.token,
        interval(delay),
        counts
    )
    .execute(db)
    .await?;
    Ok(())
}
