-- Files: uploads, and the metrics of finished jobs. The bytes lie in the object store and never change; a row is
-- written only once they are there.

create table files (
    id uuid primary key,
    project_id uuid not null references projects,
    purpose text not null check (purpose in
        ('assistants', 'batch', 'fine-tune', 'vision', 'user_data', 'evals', 'fine-tune-results')),
    filename text not null,
    bytes bigint not null check (bytes >= 0),
    sha256 bytea not null check (length(sha256) = 32),
    object_key text not null unique,
    -- domain::report::FileReport; only for purpose fine-tune.
    report jsonb,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    -- A deleted file is invisible at once. Its row stays for the jobs that name it, its bytes until no active job
    -- needs them.
    deleted_at timestamptz,
    swept_at timestamptz
);

create index files_listed on files (project_id, id) where deleted_at is null;
create index files_to_sweep on files (id) where swept_at is null and (deleted_at is not null or expires_at is not null);
