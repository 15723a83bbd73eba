#!/usr/bin/env python3
"""The service against the tools that people use with it: the `openai` package, and Transformers.

    make interop

Drives the service through examples/openai_sdk.py, fine-tunes in fp32, loads what can be downloaded with Transformers,
and compares logits with those that our own evaluation wrote.
"""

import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))

import torch
from demo import DATA, Api, download, running_service
from transformers import AutoModelForSequenceClassification, AutoTokenizer

LARGEST_DIFFERENCE = 1e-4
TEST_ROWS = 100


def some_rows(name: str, every: int, folder: pathlib.Path) -> pathlib.Path:
    """Every so manyeth row of a data file, as a file of its own."""
    with open(DATA / f"{name}.csv", newline="") as source:
        rows = list(csv.DictReader(source))[::every]
    path = folder / f"{name}.csv"
    with open(path, "w", newline="") as sink:
        writer = csv.DictWriter(sink, ["text", "category"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def fine_tune(api: Api, model: str, folder: pathlib.Path) -> tuple[dict, list[dict]]:
    """An fp32 job on a ninth of the data; returns it and the rows of its test file."""
    training, test = some_rows("training", 9, folder), some_rows("test", 30, folder)
    hyperparameters = {"n_epochs": 2, "precision": "fp32", "learning_rate": 3e-4}
    request = {"model": model, "training_file": api.upload(training), "test_file": api.upload(test), "seed": 1}
    request["hyperparameters"] = hyperparameters
    job = json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps(request)))
    while job["status"] in ("validating_files", "queued", "running"):
        time.sleep(0.5)
        job = api.get(f"/fine_tuning/jobs/{job['id']}")
    if job["status"] != "succeeded":
        raise SystemExit(f"the job {job['status']}: {job['error']}")
    with open(test, newline="") as source:
        return job, list(csv.DictReader(source))


def load(directory: pathlib.Path):
    """A model as Transformers loads it; every key must be there, and none too many."""
    model, info = AutoModelForSequenceClassification.from_pretrained(directory, output_loading_info=True)
    odd = {name: keys for name, keys in info.items() if keys}
    print(f"{directory.name}: {sum(p.numel() for p in model.parameters())} parameters, odd keys: {odd or 'none'}")
    assert not odd, odd
    return model.eval(), AutoTokenizer.from_pretrained(directory)


def compare(directory: pathlib.Path, rows: list[dict]) -> None:
    model, tokenizer = load(directory)
    with open(directory / "evaluation" / "predictions.jsonl") as source:
        predictions = [json.loads(line) for line in source][:TEST_ROWS]
    rows = rows[: len(predictions)]
    assert len(rows) == TEST_ROWS, len(rows)
    with torch.no_grad():
        inputs = tokenizer([row["text"] for row in rows], padding=True, truncation=True, return_tensors="pt")
        logits = model(**inputs).logits
    ours = torch.tensor([prediction["logits"] for prediction in predictions])
    difference = (logits - ours).abs().max().item()
    print(f"largest difference of logits on {len(rows)} rows: {difference:.2e}")
    assert difference <= LARGEST_DIFFERENCE
    for row, prediction, best in zip(rows, predictions, logits.argmax(-1).tolist()):
        assert prediction["label"] == row["category"]
        assert prediction["prediction"] == model.config.id2label[best]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    name = arguments.model.name
    with running_service(arguments.service, arguments.model) as service, tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        environment = {**os.environ, "OPENAI_BASE_URL": service.base_url, "OPENAI_API_KEY": service.key}
        sdk = [sys.executable, ROOT / "examples" / "openai_sdk.py", "--model", name, "--limit", "200"]
        subprocess.run(sdk, env=environment, check=True)
        api = Api(service.base_url, service.key)
        job, rows = fine_tune(api, name, scratch)
        compare(download(api, job["fine_tuned_model"], scratch / "model"), rows)
        (checkpoint, *_) = api.get(f"/fine_tuning/jobs/{job['id']}/checkpoints")["data"]
        load(download(api, checkpoint["fine_tuned_model_checkpoint"], scratch / "checkpoint"))
    print("interop: good")


if __name__ == "__main__":
    main()
