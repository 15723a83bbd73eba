#!/usr/bin/env python3
"""Few examples of each class: full fine-tuning, a frozen backbone and LoRA, each against the same run of Transformers and
PEFT on the same examples, over several seeds.

Runs in a Python that has transformers, peft and accelerate; see benches/README.md.
"""

import argparse
import csv
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import demo

BATCH_SIZE = 16
LORA = {"r": 8, "alpha": 16}
# What is trained, its epochs and its learning rate: the same on both sides.
WAYS = {"full": (6, 2e-4), "head": (8, 4e-3), "lora": (6, 2e-3)}
OURS = {"full": {}, "head": {"freeze": "backbone"}, "lora": {"adapter": {"type": "lora", **LORA}}}


def choose(per_class: int, seed: int, target: pathlib.Path) -> pathlib.Path:
    """A training file with so many examples of each class."""
    with open(demo.DATA / "training.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    random.Random(seed).shuffle(rows)
    left = dict.fromkeys((row["category"] for row in rows), per_class)
    with open(target, "w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "category"])
        writer.writeheader()
        for row in rows:
            if left[row["category"]] > 0:
                left[row["category"]] -= 1
                writer.writerow(row)
    return target


def ours(api: demo.Api, model: str, training: pathlib.Path, way: str, seed: int) -> float:
    epochs, rate = WAYS[way]
    hyperparameters = {"n_epochs": epochs, "batch_size": BATCH_SIZE, "learning_rate": rate}
    hyperparameters |= {"checkpoint_interval": 10**6, **OURS[way]}
    request = {
        "model": model,
        "training_file": api.upload(training),
        "test_file": api.upload(demo.DATA / "test.csv"),
        "dataset": {"validation_split": 0},
        "seed": seed,
        "method": {"type": "text_classification", "text_classification": {"hyperparameters": hyperparameters}},
    }
    job = demo.follow(api, json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps(request))))
    return job["evaluation"]["test"]["accuracy"]


def theirs(model: pathlib.Path, training: pathlib.Path, way: str, seed: int) -> float:
    epochs, rate = WAYS[way]
    command = [sys.executable, HERE / "peers/trainer_text_classification.py", "--model", model, "--training", training]
    command += ["--seed", seed, "--train", way, "--bf16", "--epochs", epochs, "--batch-size", BATCH_SIZE, "--learning-rate", rate]
    command += ["--lora-r", LORA["r"], "--lora-alpha", LORA["alpha"]]
    done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of the base model")
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    found = {(way, side): [] for way in arguments.ways for side in ("finetuned", "Transformers")}
    with tempfile.TemporaryDirectory() as scratch, demo.running_service(arguments.service, arguments.model) as service:
        api = demo.Api(service.base_url, service.key)
        for seed in arguments.seeds:
            training = choose(arguments.per_class, seed, pathlib.Path(scratch) / f"{seed}.csv")
            for way in arguments.ways:
                found[way, "finetuned"].append(ours(api, arguments.model.name, training, way, seed))
                found[way, "Transformers"].append(theirs(arguments.model, training, way, seed))
                print(f"seed {seed}, {way}:", {side: values[-1] for (of, side), values in found.items() if of == way})
    print("\n| trained | by | test accuracy by seed | mean | spread |\n|---|---|---|---|---|")
    for (way, side), values in found.items():
        each = ", ".join(f"{value:.4f}" for value in values)
        spread = f"{min(values):.4f} to {max(values):.4f}"
        print(f"| {way} | {side} | {each} | {statistics.mean(values):.4f} | {spread} |")


if __name__ == "__main__":
    main()
