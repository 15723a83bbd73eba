-- Which object store is this database's: the store says the same id. What is in a store that says another is not ours.

create table object_store (
    -- At most one row.
    is_only boolean primary key default true check (is_only),
    id uuid not null
);
