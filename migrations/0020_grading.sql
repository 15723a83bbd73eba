-- Evaluations that grade what a language model writes, and those that compare a model with another.

alter table jobs add column grading jsonb;
alter table jobs add column baseline text;
alter table jobs add column baseline_model_id uuid references models;

alter table jobs add constraint jobs_baseline_check check ((baseline is null) = (baseline_model_id is null));
alter table jobs add constraint jobs_evaluation_check check
    (kind = 'evaluation' or (grading is null and baseline is null));
