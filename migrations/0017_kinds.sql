-- What a job is for is said by itself, not by which files it has.
alter table jobs add column kind text;
update jobs set kind = case when training_file_id is null then 'evaluation' else 'training' end;
alter table jobs alter column kind set not null;
alter table jobs add constraint jobs_kind_check check (kind in ('training', 'evaluation'));

alter table jobs drop constraint jobs_file_check;
alter table jobs add constraint jobs_file_check check
    (case kind when 'training' then training_file_id is not null else test_file_id is not null end);
alter table jobs drop constraint jobs_model_check;
alter table jobs add constraint jobs_model_check check
    ((status = 'succeeded' and kind = 'training') = (fine_tuned_model_id is not null));

drop index jobs_listed;
drop index evaluations_listed;
create index jobs_listed on jobs (project_id, kind, id);

-- A job begins with its files being checked; every other status is a move's.
alter table jobs alter column status set default 'validating_files';

-- What an event tells of: what programs choose events by.
alter table events drop constraint events_kind_check;
alter table events add constraint events_kind_check check (kind in
    ('message', 'metrics', 'checkpoint.created', 'job.validating_files', 'job.queued', 'job.running', 'job.paused',
     'job.succeeded', 'job.failed', 'job.cancelled'));
