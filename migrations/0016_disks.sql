-- What the disk of a worker's runs holds when nothing is on it. A job that needs more than is free now waits; one that needs
-- more than this never runs there.
alter table workers add column disk bigint;
