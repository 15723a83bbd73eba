#!/usr/bin/env python3
"""Domain adaptation: how the masked-language-model loss on Banking77's test texts falls while a model learns the training
texts without their labels. Python's standard library is enough."""

import argparse
import csv
import json
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import demo


def texts(name: str, folder: pathlib.Path) -> pathlib.Path:
    """The texts of a data file, one a line."""
    with open(demo.DATA / f"{name}.csv", newline="") as file:
        lines = [" ".join(row["text"].split()) for row in csv.DictReader(file)]
    path = folder / f"{name}.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of the base model")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--every", type=int, default=141, help="steps between evaluations")
    arguments = parser.parse_args()
    hyperparameters = {"n_epochs": arguments.epochs, "batch_size": 64, "learning_rate": 1e-3}
    hyperparameters |= {"eval_interval": arguments.every, "checkpoint_interval": 10**6}
    with tempfile.TemporaryDirectory() as scratch, demo.running_service(arguments.service, arguments.model) as service:
        api = demo.Api(service.base_url, service.key)
        request = {
            "model": arguments.model.name,
            "training_file": api.upload(texts("training", pathlib.Path(scratch))),
            "validation_file": api.upload(texts("test", pathlib.Path(scratch))),
            "seed": 1,
            "method": {"type": "masked_lm", "masked_lm": {"hyperparameters": hyperparameters}},
        }
        job = demo.follow(api, json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps(request))))
        rows = api.get(f"/fine_tuning/jobs/{job['id']}/metrics?limit=10000")["data"]
    print("\n| step | loss on the test texts | accuracy |\n|---|---|---|")
    for row in rows:
        if "full_valid_loss" in row["metrics"]:
            loss, accuracy = row["metrics"]["full_valid_loss"], row["metrics"]["full_valid_accuracy"]
            print(f"| {row['step']} | {loss:.2f} | {accuracy:.3f} |")


if __name__ == "__main__":
    main()
