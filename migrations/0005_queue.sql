-- Workers, their slots, and the attempts they make.

create table workers (
    id uuid primary key,
    host text not null,
    started_at timestamptz not null default now()
);

-- A slot holds one job at a time: a GPU, or the CPU. It stays taken until the attempt's trainer is gone, which may be
-- a moment after the job itself was cancelled.
create table slots (
    worker_id uuid not null references workers,
    slot integer not null,
    job_id uuid references jobs,
    attempt integer,
    primary key (worker_id, slot),
    check ((job_id is null) = (attempt is null))
);

create table attempts (
    job_id uuid not null references jobs,
    attempt integer not null,
    worker_id uuid not null references workers,
    host text not null,
    lease_token uuid not null unique,
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    outcome text check (outcome in ('succeeded', 'failed', 'crashed', 'lost', 'shut_down', 'cancelled')),
    detail text,
    exit_code integer,
    signal integer,
    peak_memory bigint,
    start_step bigint not null default 0,
    device text,
    stderr_tail text,
    primary key (job_id, attempt),
    check ((ended_at is null) = (outcome is null))
);
