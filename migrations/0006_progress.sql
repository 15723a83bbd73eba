-- What jobs report: events, metrics, checkpoints.

create table events (
    id uuid primary key,
    job_id uuid not null references jobs,
    -- The order in which events were recorded, whichever process recorded them.
    seq bigint generated always as identity,
    created_at timestamptz not null default clock_timestamp(),
    level text not null check (level in ('info', 'warn', 'error')),
    kind text not null check (kind in ('message', 'metrics')),
    message text not null,
    data jsonb
);

create index events_listed on events (job_id, seq);

-- One row per step with everything measured at it. A step done again after a crash overwrites its row.
create table metrics (
    job_id uuid not null references jobs,
    step bigint not null check (step > 0),
    attempt integer not null,
    -- Name to number.
    measured jsonb not null,
    primary key (job_id, step)
);

create table checkpoints (
    id uuid primary key,
    job_id uuid not null references jobs,
    step bigint not null check (step > 0),
    attempt integer not null,
    model_id uuid not null references models,
    metrics jsonb not null,
    created_at timestamptz not null default now(),
    -- Set once retention has dropped it.
    dropped_at timestamptz,
    -- Whether its training state is still stored, so that an attempt can go on from it.
    resumable boolean not null default true
);

create unique index checkpoints_by_step on checkpoints (job_id, step) where dropped_at is null;
