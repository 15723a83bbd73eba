-- Files that come in parts, possibly many at once, and are put together at the end.

create table uploads (
    id uuid primary key,
    project_id uuid not null references projects,
    purpose text not null,
    filename text not null,
    mime_type text not null,
    -- Of all parts together, as announced.
    bytes bigint not null check (bytes > 0),
    -- Of the file, in seconds from its creation.
    expires_after bigint,
    status text not null default 'pending' check (status in ('pending', 'completed', 'cancelled', 'expired')),
    created_at timestamptz not null default now(),
    -- An hour after the last part.
    expires_at timestamptz not null,
    file_id uuid references files,
    constraint uploads_file_check check ((status = 'completed') = (file_id is not null))
);

create index uploads_of_project on uploads (project_id) where status = 'pending';
create index uploads_by_expiry on uploads (expires_at) where status = 'pending';

create table upload_parts (
    id uuid primary key,
    upload_id uuid not null references uploads,
    bytes bigint not null check (bytes > 0),
    sha256 bytea not null,
    object_key text not null unique,
    created_at timestamptz not null default now()
);

create index upload_parts_of_upload on upload_parts (upload_id, id);
