-- Projects own everything; API keys act for one project each.

create table projects (
    id uuid primary key,
    name text not null unique check (name ~ '^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$'),
    created_at timestamptz not null default now()
);

create table api_keys (
    id uuid primary key,
    project_id uuid not null references projects,
    name text not null,
    -- SHA-256 of the secret, which is 256 random bits and is stored nowhere.
    hash bytea not null unique check (length(hash) = 32),
    hint text not null,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    revoked_at timestamptz
);
