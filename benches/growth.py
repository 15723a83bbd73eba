#!/usr/bin/env python3
"""How long pages take as the tables grow: milliseconds of requests for lists of jobs, events, metrics, checkpoints and files,
in a project that has half of all rows and in one that has a hundred, from a thousand rows to ten million.

    with_postgres.py growth.py --service PROGRAM [--rows N ...] [--tables NAME ...]

The rows are written by SQL, small ones, each table alone: ten million jobs take some 9 GB of disk. Needs psql beside the
PostgreSQL that with_postgres.py starts.
"""

import argparse
import contextlib
import http.client
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scripts"))

import with_postgres

ASKED = 40
TABLES = ("jobs", "files", "events", "metrics", "checkpoints")
BASE = "00000000-0000-7000-9000-000000000001"

# Ids in the order of their numbers. Of the rows every other one is the large project's; the first hundred odd ones are the
# small one's, and the others those of fifty more.
def identified(number: str | int) -> str:
    return f"('01900000-0000-7000-8000-' || lpad(to_hex({number}), 12, '0'))::uuid"


ID, LONG, SHORT = identified("i"), identified(2), identified(1)
PROJECT = """(select id from projects where name = case
    when i % 2 = 0 then 'large' when i < 200 then 'small' else 'p' || i / 2 % 50 end)"""
OF_JOB = f"case when i % 2 = 0 then {LONG} when i < 200 then {SHORT} else {identified('3 + i % 1000')} end"
ROWS = "from generate_series(FIRST, LAST) as i"

# The oldest jobs are being validated, or have a metadata of their own; one in fifty failed.
STATUS = "case when i < 40 then 'validating_files' when i % 100 < 2 then 'failed' else 'cancelled' end"
METADATA = """case when i < 80 then '{"era": "old"}'::jsonb when i % 5 < 3 then null
    when i % 5 = 3 then jsonb_build_object('team', 't' || i % 2) else jsonb_build_object('run', 'r' || i / 1000) end"""

SEEDS = {
    "jobs": f"""
        insert into jobs (id, project_id, kind, status, model, base_model_id, training_file_id, method, hyperparameters, dataset,
                          seed, name_tag, metadata, request_hash, error, finished_at, run_after)
        select {ID}, {PROJECT}, 'training', {STATUS}, case when i % 20 < 18 then 'base' else 'other' end, '{BASE}', '{BASE}',
               'text_classification', '{{}}', '{{}}', 1, 'aaaaaaaa', {METADATA}, decode(lpad(to_hex(i), 64, '0'), 'hex'),
               case when i >= 40 and i % 100 < 2 then '{{"code": "x", "message": "y"}}'::jsonb end,
               case when i >= 40 then now() - interval '1 day' end, 'infinity' {ROWS};
        insert into job_listings (list, status, job_id)
        select list, j.status, j.id from jobs j cross join lateral job_lists(j.project_id, j.kind, j.model, j.metadata) as list
        where j.id between {identified('FIRST')} and {identified('LAST')} order by 1, 2, 3""",
    "files": f"""
        insert into files (id, project_id, purpose, filename, bytes, sha256, object_key)
        select {ID}, {PROJECT}, case when i < 40 then 'vision' else 'fine-tune' end, 'x.csv', 1,
               decode(repeat('00', 32), 'hex'), i::text {ROWS}""",
    "events": f"""
        insert into events (id, job_id, level, kind, message) select {ID}, {OF_JOB}, 'info', 'message', 'x' {ROWS}""",
    "metrics": f"""
        insert into metrics (job_id, step, attempt, measured) select {OF_JOB}, i, 1, '{{"train_loss": 1}}' {ROWS}""",
    "checkpoints": f"""
        insert into models (id, project_id, name, kind, family, facts, job_id)
        select {ID}, {PROJECT}, i::text, 'checkpoint', 'bert', '{{}}', {OF_JOB} {ROWS};
        insert into checkpoints (id, job_id, step, attempt, model_id, metrics) select {ID}, {OF_JOB}, i, 1, {ID}, '{{}}' {ROWS}""",
}

MIDDLE = "after=MIDDLE"
JOBS, OF_LONG = "/fine_tuning/jobs?", "/fine_tuning/jobs/JOB"
FILTERS = [
    "status=failed", "status=validating_files", "status=running", "model=other", "model=other&status=failed",
    "metadata[team]=t0", "metadata[run]=r0", "metadata[era]=old", "metadata[era]=none", "metadata=null",
    "metadata[team]=t0&" + MIDDLE, "metadata[team]=t0&status=validating_files", "metadata[team]=t0&status=failed",
    "metadata[era]=old&model=base", "metadata[team]=t0&model=other", "metadata[team]=t0&metadata[era]=old",
]  # fmt: skip
PATHS = {
    "jobs": [JOBS + asked for asked in ("", MIDDLE, "order=asc", *FILTERS)],
    "files": ["/files?limit=20" + asked for asked in ("", "&" + MIDDLE, "&purpose=fine-tune", "&purpose=vision")],
    "events": [OF_LONG + "/events?" + asked for asked in ("", MIDDLE, "order=asc")],
    "metrics": [OF_LONG + "/metrics?limit=20" + asked for asked in ("", "&after=HALF", "&order=desc")],
    "checkpoints": [OF_LONG + "/checkpoints?" + asked for asked in ("", MIDDLE, "order=asc")],
}
PREFIX = {"jobs": "ftjob-", "files": "file-", "events": "ftevent-", "checkpoints": "ftckpt_", "metrics": ""}


class Database:
    """The throw-away database, by psql."""

    def __init__(self, url: str):
        self.url, self.psql = url, with_postgres.binaries() / "psql"

    def run(self, *statements: str) -> str:
        # The rows are many, and what triggers do for them is done at once behind them.
        text = "set session_replication_role = replica; set synchronous_commit = off;" + ";\n".join(statements)
        command = [self.psql, self.url, "-qAtX", "-v", "ON_ERROR_STOP=1"]
        return subprocess.run(command, input=text, text=True, check=True, stdout=subprocess.PIPE).stdout.strip()


@contextlib.contextmanager
def running(program: pathlib.Path, url: str):
    """A service without a worker's jobs over the database: its address, and keys of a large and a small project."""
    with tempfile.TemporaryDirectory() as state:
        options = ["--state-dir", state, "--database-url", url]
        key = lambda project: subprocess.run(  # noqa: E731
            [program, "keys", "create", "bench", "--project", project, *options],
            check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()  # fmt: skip
        keys = {project: key(project) for project in ("large", "small")}
        command = [program, "serve", "--no-worker", "--listen", "127.0.0.1:0", "--rate-limit", "0", "--log", "warn", *options]
        service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            base = service.stdout.readline().strip().split("=", 1)[1]
            yield urllib.parse.urlsplit(base).netloc, keys
        finally:
            service.terminate()
            service.wait()


def milliseconds(address: str, key: str, path: str) -> tuple[float, float]:
    """Least and median of a request on one connection; the first ones warm up its plans."""
    connection, times = http.client.HTTPConnection(address, timeout=60), []
    for _ in range(ASKED + 8):
        start = time.perf_counter()
        connection.request("GET", "/v1" + path, headers={"Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        answer = response.read()
        times.append((time.perf_counter() - start) * 1e3)
        if response.status != 200:
            raise SystemExit(f"GET {path}: {response.status} {answer.decode(errors='replace')}")
    return min(times[8:]), statistics.median(times[8:])


def seed(database: Database, table: str, first: int, last: int) -> None:
    # In parts, so that what is read back of them is sorted in memory.
    for start in range(first, last + 1, 500_000):
        end = min(last, start + 500_000 - 1)
        database.run(SEEDS[table].replace("FIRST", str(start)).replace("LAST", str(end)))


def measure(table: str, sizes: list[int], database: Database, address: str, keys: dict) -> None:
    database.run(
        "truncate jobs, job_listings, events, metrics, checkpoints, models, files cascade",
        f"insert into models (id, name, kind, family, facts) values ('{BASE}', 'base', 'base', 'bert', '{{}}')",
    )
    if table not in ("jobs", "files"):
        seed(database, "jobs", 1, 2)
    seeded, found = 0, {}
    for size in sizes:
        seed(database, table, seeded + 1, size)
        seeded = size
        database.run("vacuum analyze")
        for project, job, middle in (("large", 2, size // 4 * 2), ("small", 1, min(size, 200) // 4 * 2 + 1)):
            for path in PATHS[table]:
                asked = path.replace("MIDDLE", f"{PREFIX[table]}019000000000700080000000{middle:08x}")
                asked = asked.replace("JOB", f"ftjob-019000000000700080000000{job:08x}").replace("HALF", str(middle))
                found.setdefault((project, path), []).append(milliseconds(address, keys[project], asked))
    print(f"\n| {table}: least, median in ms | project | " + " | ".join(f"{size:,}" for size in sizes) + " |")
    print("|---|---|" + "---|" * len(sizes))
    for (project, path), times in found.items():
        shown = path.replace("/fine_tuning", "").rstrip("?&")
        print(f"| `{shown}` | {project} | " + " | ".join(f"{least:.1f}, {median:.1f}" for least, median in times) + " |")
    print("\n" + database.run("select pg_size_pretty(pg_database_size(current_database()))") + " in all", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--rows", type=int, nargs="+", default=[10**3, 10**5, 10**6, 10**7])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    arguments = parser.parse_args()
    database = Database(os.environ["FINETUNED_TEST_DATABASE_URL"])
    with running(arguments.service.resolve(), database.url) as (address, keys):
        database.run(
            "insert into projects (id, name) select ('00000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, 'p' || i "
            "from generate_series(0, 49) as i",
        )
        for table in arguments.tables:
            measure(table, sorted(arguments.rows), database, address, keys)


if __name__ == "__main__":
    main()
