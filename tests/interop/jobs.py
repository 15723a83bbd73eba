"""Waiting for what the service does, and downloading what came of it."""

import contextlib
import io
import pathlib
import time

from demo import Api, download


def finished(api: Api, path: str) -> dict:
    """The job or evaluation at `path`, once it has succeeded."""
    found = api.get(path)
    while found["status"] in ("validating_files", "queued", "running"):
        time.sleep(0.2)
        found = api.get(path)
    if found["status"] != "succeeded":
        raise SystemExit(f"{path} {found['status']}: {found['error']}")
    return found


def finished_job(api: Api, job: str) -> dict:
    return finished(api, f"/fine_tuning/jobs/{job}")


def fetch(api: Api, model: str, folder: pathlib.Path) -> pathlib.Path:
    with contextlib.redirect_stdout(io.StringIO()):
        return download(api, model, folder)
