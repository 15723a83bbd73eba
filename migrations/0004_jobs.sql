-- Fine-tuning jobs. The row is the public job and the queue entry in one, so a claim, a cancel and an end are each
-- one guarded update.

create table jobs (
    id uuid primary key,
    project_id uuid not null references projects,
    created_at timestamptz not null default now(),
    status text not null check (status in
        ('validating_files', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),

    -- The request.
    model text not null,
    base_model_id uuid not null references models,
    training_file_id uuid not null references files,
    validation_file_id uuid references files,
    test_file_id uuid references files,
    method text not null,
    hyperparameters jsonb not null,
    dataset jsonb not null,
    suffix text,
    seed bigint not null,
    -- The last part of the names of the model and the checkpoints that this job makes.
    name_tag text not null check (name_tag ~ '^[0-9A-Za-z]{8}$'),
    metadata jsonb,
    -- SHA-256 of the request's body: the same body again is the same request when it is sent as a retry.
    request_hash bytea not null check (length(request_hash) = 32),
    idempotency_key text,

    -- domain::job::Prepared, settled by validation.
    prepared jsonb,
    -- The data report of a job whose files did not pass.
    report jsonb,

    -- How far the running attempt is.
    phase text,
    step bigint not null default 0,
    total_steps bigint not null default 0,
    estimated_finish timestamptz,

    -- The end.
    error jsonb,
    fine_tuned_model_id uuid references models,
    result_file_id uuid references files,
    trained_tokens bigint,
    evaluation jsonb,
    finished_at timestamptz,

    -- The queue. Only the database's clock decides about leases.
    run_after timestamptz not null default now(),
    attempt integer not null default 0,
    worker_id uuid,
    lease_token uuid,
    lease_until timestamptz,

    unique (project_id, idempotency_key),
    check ((status = 'running') = (lease_token is not null)),
    check ((lease_token is null) = (lease_until is null)),
    check ((status in ('succeeded', 'failed', 'cancelled')) = (finished_at is not null)),
    check ((status = 'succeeded') = (fine_tuned_model_id is not null)),
    check ((status = 'failed') = (error is not null)),
    check (status in ('validating_files', 'failed', 'cancelled') or prepared is not null)
) with (fillfactor = 80);

create index jobs_listed on jobs (project_id, id);
create index jobs_queued on jobs (id) where status = 'queued';
create index jobs_validating on jobs (id) where status = 'validating_files';
create index jobs_running on jobs (id) where status = 'running';
create index jobs_retries on jobs (project_id, request_hash, created_at);

alter table models add foreign key (job_id) references jobs;

-- The same moves as domain::job::JobStatus::may_become. A terminal status never changes, whoever writes.
create function guard_job_move() returns trigger language plpgsql as $$
begin
    if (old.status, new.status) not in (
        ('validating_files', 'queued'), ('validating_files', 'failed'), ('validating_files', 'cancelled'),
        ('queued', 'running'), ('queued', 'cancelled'),
        ('running', 'queued'), ('running', 'succeeded'), ('running', 'failed'), ('running', 'cancelled')
    ) then
        raise exception 'a job may not go from % to %', old.status, new.status
            using errcode = 'check_violation', constraint = 'job_move';
    end if;
    return new;
end
$$;

create trigger guard_job_move before update of status on jobs
    for each row when (old.status is distinct from new.status) execute function guard_job_move();
