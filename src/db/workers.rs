//! Workers, their slots, and what their machines offer.

use sqlx::{PgConnection, PgExecutor};

use super::{signed, unsigned};
use crate::domain::error::Result;
use crate::domain::estimate::{Device, Machine};
use crate::domain::id::WorkerId;

/// Records a worker and its slots, all of them free.
pub async fn register(
    db: &mut PgConnection,
    worker: WorkerId,
    host: &str,
    slots: i32,
    machine: &Machine,
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into workers (id, host) values ($1, $2)
        on conflict (id) do update set host = excluded.host, started_at = now()
        "#,
        worker.0,
        host
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!("delete from slots where worker_id = $1", worker.0).execute(&mut *db).await?;
    sqlx::query!(
        "insert into slots (worker_id, slot) select $1, slot from generate_series(0, $2 - 1) as slot",
        worker.0,
        slots
    )
    .execute(&mut *db)
    .await?;
    seen(db, worker, machine).await
}

/// Records that a worker is there, and what its machine offers now.
pub async fn seen(db: impl PgExecutor<'_>, worker: WorkerId, machine: &Machine) -> Result<()> {
    sqlx::query!(
        r#"
        update workers set last_seen_at = now(), has_gpu = $2, has_bf16 = $3, memory = $4, free_disk = $5,
            disk = $6
        where id = $1
        "#,
        worker.0,
        machine.device.is_gpu,
        machine.device.has_bf16,
        machine.memory.map(signed),
        machine.free_disk.map(signed),
        machine.disk.map(signed)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The machines of the workers that were there within the last minute.
pub async fn machines(db: impl PgExecutor<'_>) -> Result<Vec<Machine>> {
    let rows = sqlx::query!(
        r#"
        select has_gpu, has_bf16, memory, free_disk, disk from workers
        where last_seen_at > now() - interval '1 minute'
        "#
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Machine {
            device: Device { is_gpu: row.has_gpu, has_bf16: row.has_bf16 },
            memory: row.memory.map(unsigned),
            free_disk: row.free_disk.map(unsigned),
            disk: row.disk.map(unsigned),
        })
        .collect())
}
