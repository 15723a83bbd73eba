#!/usr/bin/env python3
"""The whole path of a fine-tuning job on real data, against a service that this script starts and stops.

It uploads Banking77 (examples/banking77), fine-tunes a small BERT on it, shows the progress, and downloads the model.
Python's standard library is enough; examples/openai_sdk.py does the same with the official SDK.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import typing
import urllib.parse
import uuid

DATA = pathlib.Path(__file__).resolve().parent / "banking77"
HYPERPARAMETERS = {"n_epochs": 3, "batch_size": 32, "learning_rate": 3e-4}


class Api:
    """The service's API, as far as the demo uses it."""

    def __init__(self, base_url: str, key: str):
        url = urllib.parse.urlsplit(base_url)
        self.address, self.prefix, self.key = url.netloc, url.path, key

    def call(self, method: str, path: str, body=None, content_type="application/json") -> bytes:
        connection = http.client.HTTPConnection(self.address, timeout=600)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": content_type}
        connection.request(method, self.prefix + path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if response.status != 200:
            raise SystemExit(f"{method} {path}: {response.status} {answer.decode(errors='replace')}")
        return answer

    def get(self, path: str) -> dict:
        return json.loads(self.call("GET", path))

    def upload(self, path: pathlib.Path) -> str:
        boundary = uuid.uuid4().hex
        form = f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        form += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
        body = form.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        answer = self.call("POST", "/files", body, f"multipart/form-data; boundary={boundary}")
        return json.loads(answer)["id"]


class Progress:
    """One line that is drawn again and again on a terminal, or a line now and then elsewhere."""

    def __init__(self):
        self.live, self.last, self.started = sys.stdout.isatty(), -1.0, time.monotonic()

    def show(self, job: dict, metrics: dict) -> None:
        progress = job["progress"] or {"step": 0, "total_steps": 0}
        step, total = progress["step"], progress["total_steps"]
        share = step / total if total else 0.0
        text = f"{step}/{total or '?'} steps"
        for name, label in (("train_loss", "loss"), ("train_accuracy", "accuracy"), ("full_valid_accuracy", "validation")):
            if name in metrics:
                text += f"  {label} {metrics[name]:.3f}"
        if job["estimated_finish"] and step < total:
            left = max(0, round(job["estimated_finish"] - time.time()))
            text += f"  ETA {left // 60}:{left % 60:02}"
        if job["phase"] not in (None, "training"):
            text += f"  {job['phase']}"
        if self.live:
            bar = "#" * round(30 * share)
            print(f"\r\033[K[{bar:30}] {text}", end="", flush=True)
        elif share >= self.last + 0.1 or (share == 1.0 and self.last < 1.0):
            self.last = share
            print(f"{time.monotonic() - self.started:6.0f} s  {text}", flush=True)

    def end(self) -> None:
        if self.live:
            print()


def latest_metrics(api: Api, job: str) -> dict:
    """The newest value of every metric, from the newest events."""
    newest: dict = {}
    for event in api.get(f"/fine_tuning/jobs/{job}/events?limit=100")["data"]:
        for name, value in (event["data"] or {}).items() if event["type"] == "metrics" else ():
            newest.setdefault(name, value)
    return newest


def create_job(api: Api, model: str, hyperparameters: dict) -> dict:
    files = {name: api.upload(DATA / f"{name}.csv") for name in ("training", "validation", "test")}
    print("uploaded " + ", ".join(f"{name}.csv as {file}" for name, file in files.items()))
    request = {
        "model": model,
        "training_file": files["training"],
        "validation_file": files["validation"],
        "test_file": files["test"],
        "seed": 42,
        "suffix": "banking77",
        "method": {"type": "text_classification", "text_classification": {"hyperparameters": hyperparameters}},
    }
    job = json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps(request)))
    print(f"created {job['id']}")
    return job


def follow(api: Api, job: dict) -> dict:
    """Shows the job's progress until it has succeeded."""
    progress = Progress()
    while job["status"] in ("validating_files", "queued", "running"):
        time.sleep(0.5)
        job = api.get(f"/fine_tuning/jobs/{job['id']}")
        if job["status"] == "running":
            progress.show(job, latest_metrics(api, job["id"]))
    progress.end()
    if job["status"] != "succeeded":
        raise SystemExit(f"the job {job['status']}: {job['error']}")
    attempt = job["attempts"][-1]
    seconds = attempt["ended_at"] - attempt["started_at"]
    what = f"{job['trained_tokens']} tokens " if job["trained_tokens"] else ""
    print(f"trained {what}on {attempt['device']} in {seconds} s")
    return job


def download(api: Api, model: str, target: pathlib.Path) -> pathlib.Path:
    name = urllib.parse.quote(model, safe="")
    listed = {file["path"]: file for file in api.get(f"/models/{name}/files")["data"]}
    archive = api.call("GET", f"/models/{name}/archive")
    shutil.rmtree(target, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        # The filter that refuses odd paths is missing from old Pythons.
        tar.extractall(target, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (directory,) = target.iterdir()
    for path, file in listed.items():
        print(f"  {file['bytes']:>11,}  {path}")
    return directory


class Service(typing.NamedTuple):
    """A service that runs."""

    base_url: str
    key: str
    pid: int
    state: pathlib.Path


@contextlib.contextmanager
def running_service(program: pathlib.Path, *models: pathlib.Path, name: str | None = None, more: tuple = ()):
    """A service on a free port with a throw-away state folder and these base models; `more` are options of it.

    With a `name` there is one model, which is called so.
    """
    # The private database may run as another user, who must be able to pass through.
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="finetuned-"))
    scratch.chmod(0o711)
    state, log = scratch / "state", scratch / "log"
    service = None
    # Whoever is asked to end cleans up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        options = ["--state-dir", str(state)]
        named = ["--name", name] if name else []
        for model in models:
            subprocess.run([program, "models", "import", model, *named, *options], check=True)
        command = [program, "serve", "--listen", "127.0.0.1:0", *options, *more]
        with open(log, "wb") as sink:
            service = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, text=True)
        first_line = service.stdout.readline()
        if "=" not in first_line:
            raise SystemExit("the service did not start:\n" + log.read_text())
        yield Service(first_line.strip().split("=", 1)[1], (state / "bootstrap-key").read_text(), service.pid, state)
    finally:
        if service:
            service.send_signal(signal.SIGTERM)
            service.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of the base model")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/demo"), help="where the model goes")
    arguments = parser.parse_args()
    with running_service(arguments.service, arguments.model) as service:
        print(f"service at {service.base_url}")
        api = Api(service.base_url, service.key)
        job = follow(api, create_job(api, arguments.model.name, HYPERPARAMETERS))
        directory = download(api, job["fine_tuned_model"], arguments.out)
    print(f"test accuracy: {job['evaluation']['test']['accuracy']:.4f}  model: {directory}")


if __name__ == "__main__":
    main()
