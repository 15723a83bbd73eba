#!/usr/bin/env python3
"""What a project feels of another one that floods every route at its limits, against a service that is idle otherwise:
how long its status, upload, dry run, validation, first step and classification take. The standard library is enough.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))
sys.path.insert(0, str(HERE))

import demo
from attacks import labelled, send, upload

ROUNDS = 20
JOBS = 1500
ACTIVE = ("validating_files", "queued", "running")


class Neighbour:
    """The project that is measured."""

    def __init__(self, api: demo.Api, model: str):
        self.api, self.model = api, model
        self.file = upload(api, "small.csv", labelled(20, 2))
        self.large = labelled(25_000, 5, "a text of some length to fill the line").ljust(1 << 20, b"\n")
        self.classifier = self.finished(self.create(n_epochs=1, max_sequence_length=16))["fine_tuned_model"]

    def create(self, dry_run: bool = False, **hyperparameters) -> dict:
        body = {"model": self.model, "training_file": self.file, "hyperparameters": hyperparameters}
        status, answer = send(self.api, "POST", "/v1/fine_tuning/jobs", json.dumps({**body, "dry_run": dry_run}))
        if status != 200:
            raise RuntimeError(f"{status} {answer[:200]}")
        return json.loads(answer)

    def until(self, job: dict, reached) -> dict:
        while not reached(job):
            time.sleep(0.01)
            job = self.api.get(f"/fine_tuning/jobs/{job['id']}")
        return job

    def finished(self, job: dict) -> dict:
        job = self.until(job, lambda job: job["status"] not in ACTIVE)
        if job["status"] != "succeeded":
            raise SystemExit(f"the job {job['status']}: {job['error']}")
        return job

    def cancel(self, job: dict) -> None:
        send(self.api, "POST", f"/v1/fine_tuning/jobs/{job['id']}/cancel")

    def classify(self) -> None:
        body = json.dumps({"model": self.classifier, "input": "text number 1"})
        status, answer = send(self.api, "POST", "/v1/classifications", body)
        if status != 200:
            raise RuntimeError(f"{status} {answer[:200]}")

    def validate(self) -> None:
        self.cancel(self.until(self.create(), lambda job: job["status"] != "validating_files"))

    def first_step(self) -> None:
        stepped = lambda job: (job["progress"] or {"step": 0})["step"] > 0 or job["status"] not in ACTIVE
        self.cancel(self.until(self.create(n_epochs=50), stepped))

    def measure(self) -> dict:
        """Milliseconds of each, sorted, and how many of them failed."""
        work = {
            "status": (ROUNDS * 10, lambda: self.api.get("/fine_tuning/jobs?limit=1")),
            "upload of 1 MiB": (ROUNDS, lambda: upload(self.api, "large.csv", self.large)),
            "dry run": (ROUNDS, lambda: self.create(dry_run=True)),
            "validation": (ROUNDS, self.validate),
            "classification": (ROUNDS, self.classify),
            "first step": (3, self.first_step),
        }
        found = {}
        for name, (rounds, once) in work.items():
            times, failed = [], 0
            for _ in range(rounds):
                started = time.monotonic()
                try:
                    once()
                    times.append((time.monotonic() - started) * 1e3)
                except (RuntimeError, SystemExit):
                    failed += 1
            found[name] = (sorted(times), failed)
        return found


class Flood:
    """The other project, until it is told to stop: four threads on each route, however it is answered."""

    def __init__(self, api: demo.Api, model: str, classifier: str | None):
        self.api, self.ended, self.sent, self.refused = api, threading.Event(), 0, 0
        file = upload(api, "flood.csv", labelled(5000, 10))
        job = json.dumps({"model": model, "training_file": file, "hyperparameters": {"n_epochs": 100}})
        dry = json.dumps({"model": model, "training_file": file, "dry_run": True})
        data = labelled(100_000, 10)
        for _ in range(JOBS):
            self.count(send(api, "POST", "/v1/fine_tuning/jobs", job)[0])
        asked = json.dumps({"model": classifier, "input": ["text " * 100] * 256})
        routes = [
            lambda: upload(api, "flood.csv", data),
            lambda: send(api, "POST", "/v1/fine_tuning/jobs", dry),
            lambda: send(api, "POST", "/v1/fine_tuning/jobs", job),
            lambda: send(api, "GET", "/v1/fine_tuning/jobs?limit=100"),
            lambda: send(api, "GET", "/v1/files?limit=1000"),
        ]
        if classifier:
            routes.append(lambda: send(api, "POST", "/v1/classifications", asked))
        self.threads = [threading.Thread(target=self.run, args=(route,)) for route in routes for _ in range(4)]
        for thread in self.threads:
            thread.start()

    def count(self, status: int) -> None:
        self.sent += 1
        self.refused += status != 200

    def run(self, route) -> None:
        while not self.ended.is_set():
            try:
                answer = route()
                self.count(answer[0] if isinstance(answer, tuple) else 200)
            except SystemExit:
                self.count(0)

    def stop(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()


def percentile(times: list, share: float) -> str:
    return f"{times[min(len(times) - 1, int(len(times) * share))]:8.0f}" if times else "       -"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of the base model")
    arguments = parser.parse_args()
    with demo.running_service(arguments.service, arguments.model) as service:
        api = demo.Api(service.base_url, service.key)
        made = subprocess.run(
            [arguments.service, "keys", "create", "--project", "flood", "--state-dir", service.state],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        flooding = demo.Api(service.base_url, made.stdout.strip())
        neighbour = Neighbour(api, arguments.model.name)
        idle = neighbour.measure()
        other = Neighbour(flooding, arguments.model.name)
        flood = Flood(flooding, arguments.model.name, other.classifier)
        time.sleep(5)
        busy = neighbour.measure()
        flood.stop()
        print(f"the flood sent {flood.sent} requests, of which {flood.refused} were refused")
        print(f"{'milliseconds':18} {'idle p50':>8} {'p99':>8} {'busy p50':>8} {'p99':>8}  failed")
        for name, (times, failed) in busy.items():
            before = idle[name][0]
            figures = " ".join(percentile(found, share) for found in (before, times) for share in (0.5, 0.99))
            print(f"{name:18} {figures}  {failed}", flush=True)


if __name__ == "__main__":
    main()
