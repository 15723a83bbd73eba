-- Evaluations go through the same queue: an evaluation is a job that trains on nothing. It scores its base model on its
-- test file, and leaves a report and a line for each example instead of a model.

alter table jobs alter column training_file_id drop not null;
alter table jobs add constraint jobs_file_check check (training_file_id is not null or test_file_id is not null);

alter table jobs add column report_file_id uuid references files;

-- Before: a job that succeeded has a model.
alter table jobs drop constraint jobs_check3;
alter table jobs add constraint jobs_model_check check
    ((status = 'succeeded' and training_file_id is not null) = (fine_tuned_model_id is not null));

drop index jobs_listed;
create index jobs_listed on jobs (project_id, id) where training_file_id is not null;
create index evaluations_listed on jobs (project_id, id) where training_file_id is null;
