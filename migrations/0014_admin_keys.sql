-- Keys of the operator, which may remove what all projects share: base models.

alter table api_keys add column is_admin boolean not null default false;
