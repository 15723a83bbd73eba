-- Models: base models, which every project sees, and what jobs made.

create table models (
    id uuid primary key,
    project_id uuid references projects,
    name text not null,
    kind text not null check (kind in ('base', 'fine_tuned', 'checkpoint')),
    family text not null,
    -- domain::model::ModelFacts, read from config.json.
    facts jsonb not null,
    job_id uuid,
    created_at timestamptz not null default now(),
    deleted_at timestamptz,
    swept_at timestamptz,
    check ((kind = 'base') = (project_id is null)),
    check ((kind = 'base') = (job_id is null))
);

create unique index models_by_name on models (name) where deleted_at is null;
create index models_by_job on models (job_id) where job_id is not null;

create table model_files (
    model_id uuid not null references models,
    -- Relative, with forward slashes. Files under training/ serve resuming and are not part of the model.
    path text not null,
    bytes bigint not null check (bytes >= 0),
    sha256 bytea not null check (length(sha256) = 32),
    object_key text not null,
    primary key (model_id, path)
);
