-- Pausing: a running job saves a checkpoint, gives its slot back and waits until it is resumed.

alter table jobs drop constraint jobs_status_check;
alter table jobs add constraint jobs_status_check check (status in
    ('validating_files', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled'));

-- Set while a running job is asked to pause; the worker that holds it learns of it when it renews its lease.
alter table jobs add column pause_requested boolean not null default false
    check (not pause_requested or status = 'running');

alter table attempts drop constraint attempts_outcome_check;
alter table attempts add constraint attempts_outcome_check check (outcome in
    ('succeeded', 'failed', 'crashed', 'lost', 'shut_down', 'paused', 'cancelled'));

-- The same moves as domain::job::JobStatus::may_become.
create or replace function guard_job_move() returns trigger language plpgsql as $$
begin
    if (old.status, new.status) not in (
        ('validating_files', 'queued'), ('validating_files', 'failed'), ('validating_files', 'cancelled'),
        ('queued', 'running'), ('queued', 'paused'), ('queued', 'cancelled'),
        ('running', 'queued'), ('running', 'paused'), ('running', 'succeeded'), ('running', 'failed'),
        ('running', 'cancelled'),
        ('paused', 'queued'), ('paused', 'cancelled')
    ) then
        raise exception 'a job may not go from % to %', old.status, new.status
            using errcode = 'check_violation', constraint = 'job_move';
    end if;
    return new;
end
$$;
