#!/usr/bin/env python3
"""How long a job takes from its creation to its first step, and how long to each state on the way there: of a small encoder
and a few thousand labelled texts, one job after the other. The standard library is enough.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))
sys.path.insert(0, str(HERE))

import demo
from attacks import labelled, upload

POLL = 0.005
ENDED = ("succeeded", "failed", "cancelled")


def states(job: dict) -> list[str]:
    """What a job has reached by now, as far as it shows that."""
    progress = job["progress"] or {"step": 0}
    reached = ["created"]
    if job["status"] not in ("validating_files",):
        reached.append("checked")
    if job["status"] in ("running", *ENDED):
        reached += ["claimed", f"phase {job['phase']}"]
    if progress["step"] > 0:
        reached.append("first step")
    return reached


def once(api: demo.Api, model: str, file: str) -> dict[str, float]:
    """Milliseconds from creation to each state."""
    body = {"model": model, "training_file": file, "hyperparameters": {"n_epochs": 50, "batch_size": 32}}
    start = time.monotonic()
    job = json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps(body).encode()))
    seen: dict[str, float] = {}
    while "first step" not in seen:
        for state in states(job):
            seen.setdefault(state, (time.monotonic() - start) * 1e3)
        if job["status"] in ENDED:
            raise SystemExit(f"the job {job['status']}: {job['error']}")
        time.sleep(POLL)
        job = api.get(f"/fine_tuning/jobs/{job['id']}")
    api.call("POST", f"/fine_tuning/jobs/{job['id']}/cancel")
    while job["status"] not in ENDED:
        time.sleep(0.05)
        job = api.get(f"/fine_tuning/jobs/{job['id']}")
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of the base model")
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two jobs")
    arguments = parser.parse_args()
    with demo.running_service(arguments.service, arguments.model) as service:
        api = demo.Api(service.base_url, service.key)
        file = upload(api, "texts.csv", labelled(arguments.examples, 10))
        found: dict[str, list[float]] = {}
        for _ in range(arguments.jobs):
            time.sleep(arguments.pause)
            for state, milliseconds in once(api, arguments.model.name, file).items():
                found.setdefault(state, []).append(milliseconds)
    print(f"{'milliseconds':18} {'median':>8} {'least':>8} {'most':>8}")
    for state, times in found.items():
        print(f"{state:18} {statistics.median(times):8.0f} {min(times):8.0f} {max(times):8.0f}")


if __name__ == "__main__":
    main()
