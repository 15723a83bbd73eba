-- What reading a data file found, so that the next job which asks the same of it need not read it again. A file is known
-- by its hash: its bytes never change, and the same bytes may be uploaded again.

create table readings (
    project_id uuid not null references projects,
    sha256 bytea not null check (length(sha256) = 32),
    -- SHA-256 of domain::reading::Question.
    question bytea not null check (length(question) = 32),
    -- dataset::READER_VERSION: what another version found is not used.
    reader integer not null,
    -- domain::reading::Reading; at most a megabyte, and few for each file.
    reading jsonb not null,
    kept_at timestamptz not null default now(),
    primary key (project_id, sha256, question)
);

-- Whether another file of the project has the same bytes, when one is deleted.
create index files_by_hash on files (project_id, sha256) where deleted_at is null;
