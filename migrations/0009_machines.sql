-- What the machines of workers offer, and what runs need, so that no run starts where it cannot end.

alter table workers add column last_seen_at timestamptz not null default now();
alter table workers add column has_gpu boolean not null default false;
alter table workers add column has_bf16 boolean not null default false;
-- Bytes that one slot may use: of its GPU, or its share of the machine.
alter table workers add column memory bigint;
alter table workers add column free_disk bigint;

-- Predicted by domain::estimate.
alter table jobs add column needed_memory bigint;
alter table jobs add column needed_disk bigint;

-- For finding objects that no row names.
create index model_files_by_key on model_files (object_key);
