-- Why an attempt ended, for programs: domain::attempt::Cause. The detail beside it is for people.

alter table attempts add column cause text;
-- Most bytes of GPU memory its tensors held.
alter table attempts add column peak_device_memory bigint;

-- How often the job's files were taken up for validation. Files that bring down whoever reads them are given up.
alter table jobs add column validation_tries integer not null default 0;
