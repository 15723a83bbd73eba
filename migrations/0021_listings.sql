-- Pages and upkeep in constant time, however many rows there are. The indexes are made in one transaction with all else, so
-- jobs do not move meanwhile: up to a minute for each million of them.

set local statement_timeout = 0;

-- What each job is found by: its kind, its model, each pair of its metadata or that it has none. A row for each, in the order
-- of ids, so that a page of any of them, in one status or in all, is a stretch of this table's key, or seven.
create table job_listings (
    -- What the list is of, as a number: see job_list.
    list bigint not null,
    status text not null,
    -- No foreign key: only the triggers write here, and jobs stay.
    job_id uuid not null,
    primary key (list, status, job_id)
);

-- The number of a list. It is stored, so it must be the same in every version of PostgreSQL, which a hash for its own use is
-- not. Two lists may have one number: whoever reads them looks at the jobs, too.
create function job_list(project_id uuid, about jsonb) returns bigint language sql stable parallel safe as $$
    select ('x' || encode(substr(sha256(convert_to(project_id || ' ' || about, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint
$$;

-- The lists that a job stands in.
create function job_lists(project_id uuid, kind text, model text, metadata jsonb) returns setof bigint
language sql stable parallel safe as $$
    select job_list(project_id, jsonb_build_object('kind', kind))
    union select job_list(project_id, jsonb_build_object('kind', kind, 'model', model))
    union select job_list(project_id, jsonb_build_object('kind', kind, 'metadata', null)) where metadata is null
    union select job_list(project_id, jsonb_build_object('kind', kind, 'metadata', jsonb_build_object(key, value)))
          from jsonb_each(metadata) as pair (key, value)
$$;

create function keep_job_listings() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into job_listings (list, status, job_id)
        select list, new.status, new.id from job_lists(new.project_id, new.kind, new.model, new.metadata) as list;
    else
        update job_listings set status = new.status
        where status = old.status and job_id = new.id
          and list = any (array(select job_lists(new.project_id, new.kind, new.model, new.metadata)));
    end if;
    return null;
end
$$;

create trigger list_new_job after insert on jobs for each row execute function keep_job_listings();
create trigger list_moved_job after update of status on jobs
    for each row when (old.status is distinct from new.status) execute function keep_job_listings();

insert into job_listings (list, status, job_id)
select list, j.status, j.id
from jobs j cross join lateral job_lists(j.project_id, j.kind, j.model, j.metadata) as list
order by 1, 2, 3;

-- For counting the jobs that have ended, of each kind and status, since they were counted last.
create index jobs_ended on jobs (finished_at) include (kind, status) where finished_at is not null;

drop index files_to_sweep;
create index files_to_sweep on files (id) where swept_at is null and deleted_at is not null;
create index files_by_purpose on files (project_id, purpose, id) where deleted_at is null;
create index models_listed on models (project_id, id) where deleted_at is null and kind <> 'checkpoint';

-- What upkeep looks for, which are few at any time.
create index models_to_sweep on models (id) where deleted_at is not null and swept_at is null;
create index model_files_of_states on model_files (model_id) where starts_with(path, 'training/');
create index checkpoints_by_model on checkpoints (model_id);
create index checkpoints_kept on checkpoints (created_at) where dropped_at is null;
create index attempts_open on attempts (job_id) where ended_at is null;
create index files_to_expire on files (expires_at) where swept_at is null and expires_at is not null;

analyze job_listings;
