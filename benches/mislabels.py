#!/usr/bin/env python3
"""Planted mislabels: a share of Banking77's training labels is exchanged for others at random, a job trains on them, and
its list of examples is asked which are wrong. Of the first examples of the list, as many as were exchanged, the share is
printed that were: for each order and each seed. The standard library is enough.
"""

import argparse
import csv
import json
import pathlib
import random
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import demo

ORDERS = ("margin", "loss", "forgetting")
PAGE = 1000


def plant(share: float, seed: int, target: pathlib.Path) -> tuple[set[int], int]:
    """Writes the training data with wrong labels; the lines of these, and how many lines there are."""
    with open(demo.DATA / "training.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    draws = random.Random(seed)
    labels = sorted({row["category"] for row in rows})
    wrong = set(draws.sample(range(len(rows)), round(share * len(rows))))
    lines, line = set(), 2
    with open(target, "w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "category"], lineterminator="\n")
        writer.writeheader()
        for number, row in enumerate(rows):
            if number in wrong:
                lines.add(line)
                row["category"] = draws.choice([label for label in labels if label != row["category"]])
            writer.writerow(row)
            line += 1 + row["text"].count("\n")
    return lines, len(rows)


def first(api: demo.Api, job: str, order: str, count: int) -> list[int]:
    """The lines of the first examples in an order."""
    lines, after = [], ""
    while len(lines) < count:
        limit = min(PAGE, count - len(lines))
        page = api.get(f"/fine_tuning/jobs/{job}/examples?order={order}&limit={limit}{after}")
        lines += [example["line"] for example in page["data"]]
        after = f"&after={page['last_id']}"
    return lines


def train(api: demo.Api, model: str, training: pathlib.Path, arguments: argparse.Namespace, seed: int) -> dict:
    request = {
        "model": model,
        "training_file": api.upload(training),
        "validation_file": api.upload(demo.DATA / "validation.csv"),
        "seed": seed,
        "hyperparameters": {
            "n_epochs": arguments.epochs,
            "batch_size": arguments.batch_size,
            "learning_rate": arguments.learning_rate,
            "checkpoint_interval": 10**6,
        },
    }
    return demo.follow(api, json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps(request))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of the base model")
    parser.add_argument("--share", type=float, default=0.05, help="of the labels that are exchanged")
    parser.add_argument("--epochs", type=int, default=demo.HYPERPARAMETERS["n_epochs"])
    parser.add_argument("--batch-size", type=int, default=demo.HYPERPARAMETERS["batch_size"])
    parser.add_argument("--learning-rate", type=float, default=demo.HYPERPARAMETERS["learning_rate"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    rows = []
    with demo.running_service(arguments.service, arguments.model) as service, tempfile.TemporaryDirectory() as folder:
        api = demo.Api(service.base_url, service.key)
        for seed in arguments.seeds:
            training = pathlib.Path(folder) / f"training-{seed}.csv"
            wrong, examples = plant(arguments.share, seed, training)
            started = time.monotonic()
            job = train(api, arguments.model.name, training, arguments, seed)
            seconds = time.monotonic() - started
            found = [len(wrong.intersection(first(api, job["id"], order, len(wrong)))) / len(wrong) for order in ORDERS]
            print(f"seed {seed}: {len(wrong)} of {examples} labels are wrong; trained in {seconds:.0f} s")
            rows.append((seed, job["evaluation"]["validation"]["accuracy"], found))
    print("\n| seed | " + " | ".join(ORDERS) + " | random | validation accuracy |")
    print("|---|" + "---|" * (len(ORDERS) + 2))
    for seed, accuracy, found in rows:
        print(f"| {seed} | " + " | ".join(f"{share:.3f}" for share in found) + f" | {arguments.share:.3f} | {accuracy:.4f} |")


if __name__ == "__main__":
    main()
