-- What a project may have at once. Null is what the service's settings say; 0 is no limit.

alter table projects add column quota_stored_bytes bigint check (quota_stored_bytes >= 0);
alter table projects add column quota_files bigint check (quota_files >= 0);
alter table projects add column quota_queued_jobs bigint check (quota_queued_jobs >= 0);
alter table projects add column quota_running_jobs bigint check (quota_running_jobs >= 0);
alter table projects add column quota_evaluations bigint check (quota_evaluations >= 0);
alter table projects add column quota_dry_runs bigint check (quota_dry_runs >= 0);

-- For adding up what a project stores.
create index files_stored on files (project_id) include (bytes) where swept_at is null;
create index models_stored on models (project_id) where swept_at is null and project_id is not null;
