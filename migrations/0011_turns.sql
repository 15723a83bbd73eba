-- Turns: each project is asked in turn for its next job, so that nobody's many jobs stand before another's one.

alter table projects add column claimed_at timestamptz;
alter table projects add column validated_at timestamptz;

-- A validation is held under a token, as a run is: whoever lost it writes nothing. While it is held, run_after says
-- when it may be taken from its holder.
alter table jobs add column validation_token uuid
    check (validation_token is null or status = 'validating_files');

-- Whether an event has said that there is no worker to run the job.
alter table jobs add column told_of_no_worker boolean not null default false;

drop index jobs_queued;
drop index jobs_validating;
create index jobs_open on jobs (project_id, status, id)
    where status in ('validating_files', 'queued', 'running', 'paused');
create index jobs_being_validated on jobs (project_id) where validation_token is not null;
