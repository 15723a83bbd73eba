#!/usr/bin/env python3
"""The service against the tools that people use with it: the `openai` package, Transformers, PEFT, sentence-transformers.

    make interop

Drives the service through examples/openai_sdk.py and examples/openai_chat.mjs; then trains a model of every family for every task in fp32, loads
what can be downloaded as people would, and compares outputs with those that our own evaluations wrote. Language models
follow: an imported GGUF file, tunes of it, and what the service answers with them.
"""

import argparse
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

from families import CASES, ROOT, Case, base_models, data
from checks import ARCHITECTURES, check, load
from demo import DATA, Api, running_service
from jobs import fetch, finished_job
from language_models import language_models


def some_rows(name: str, every: int, folder: pathlib.Path) -> tuple[pathlib.Path, list[dict]]:
    """Every so manyeth row of one of Banking77's files, as a file of its own and as rows."""
    with open(DATA / f"{name}.csv", newline="") as source:
        rows = list(csv.DictReader(source))[::every]
    path = folder / f"{name}.csv"
    with open(path, "w", newline="") as sink:
        writer = csv.DictWriter(sink, ["text", "category"])
        writer.writeheader()
        writer.writerows(rows)
    return path, rows


def create(api: Api, case: Case, training: str, test: str) -> str:
    method = {"type": case.method, case.method: {"hyperparameters": case.hyperparameters()}}
    request = {"model": case.model, "training_file": training, "test_file": test, "seed": 1, "method": method}
    return json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps(request)))["id"]


def real_model(api: Api, model: str, scratch: pathlib.Path) -> float:
    """A published model on a ninth of the demo's data, and one of its checkpoints."""
    (training, _), (test, rows) = some_rows("training", 9, scratch), some_rows("test", 30, scratch)
    case = Case(model, "text_classification", "labels", {"learning_rate": 3e-4})
    job = finished_job(api, create(api, case, api.upload(training), api.upload(test)))
    directory = fetch(api, job["fine_tuned_model"], scratch / "model")
    (checkpoint, *_) = api.get(f"/fine_tuning/jobs/{job['id']}/checkpoints")["data"]
    load(ARCHITECTURES[case.method], fetch(api, checkpoint["fine_tuned_model_checkpoint"], scratch / "checkpoint"))
    return check(case.method, directory, rows, None)


def tiny_models(api: Api, bases: dict, scratch: pathlib.Path) -> list[float]:
    """Every case's difference. The jobs wait in the queue while the first are compared."""
    contents, uploads, jobs = {}, {}, []
    for name in dict.fromkeys(case.data for case in CASES):
        training, test, contents[name] = data(name, scratch)
        uploads[name] = api.upload(training), api.upload(test)
    for case in CASES:
        jobs.append(create(api, case, *uploads[case.data]))
    differences = []
    for number, (case, job) in enumerate(zip(CASES, jobs)):
        directory = fetch(api, finished_job(api, job)["fine_tuned_model"], scratch / f"tiny-{number}")
        base = bases[case.model] if "adapter" in case.more else None
        differences.append(check(case.method, directory, contents[case.data], base))
        print(f"{case}: {differences[-1]:.1e}", flush=True)
    return differences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--chat-model", type=pathlib.Path, required=True, help="folder with one GGUF file")
    parser.add_argument("--node-sdk", type=pathlib.Path, required=True, help="folder where npm installed the openai package")
    arguments = parser.parse_args()
    name = arguments.model.name
    (gguf,) = arguments.chat_model.glob("*.gguf")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "bases").mkdir()
        bases = base_models(scratch / "bases")
        with running_service(arguments.service, arguments.model, *bases.values()) as service:
            environment = {**os.environ, "OPENAI_BASE_URL": service.base_url, "OPENAI_API_KEY": service.key}
            sdk = [sys.executable, ROOT / "examples" / "openai_sdk.py", "--model", name, "--limit", "200"]
            subprocess.run(sdk, env=environment, check=True)
            api = Api(service.base_url, service.key)
            differences = [real_model(api, name, scratch)]
            print(f"{name}, text_classification of labels: {differences[0]:.1e}", flush=True)
            differences += tiny_models(api, bases, scratch)
        with running_service(arguments.service, gguf) as service:
            language_models(service, arguments.service, gguf, scratch)
            environment = {**os.environ, "OPENAI_BASE_URL": service.base_url, "OPENAI_API_KEY": service.key}
            # A module finds the packages that are installed beside it.
            script = shutil.copy(ROOT / "examples" / "openai_chat.mjs", arguments.node_sdk)
            subprocess.run(["node", script, gguf.stem], env=environment, check=True)
    print(f"interop: {len(differences)} models, largest difference {max(differences):.1e}")


if __name__ == "__main__":
    main()
