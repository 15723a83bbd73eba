#!/usr/bin/env python3
"""Fine-tuning a text classifier: our service against Transformers' Trainer, on the same machine in the same run.

Runs in a Python that has transformers and accelerate; see benches/README.md.
"""

import argparse
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import demo

EXAMPLES = 9000
BATCH_SIZE = 32
LEARNING_RATE = 3e-4


def ours(arguments: argparse.Namespace) -> dict:
    hyperparameters = {"n_epochs": arguments.epochs, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE}
    with demo.running_service(arguments.service, arguments.model) as service:
        api = demo.Api(service.base_url, service.key)
        job = demo.follow(api, demo.create_job(api, arguments.model.name, hyperparameters))
    attempt = job["attempts"][-1]
    return {
        "seconds": attempt["ended_at"] - attempt["started_at"],
        "accuracy": job["evaluation"]["test"]["accuracy"],
        "peak_memory": attempt["peak_memory_bytes"],
    }


def trainer(arguments: argparse.Namespace, *flags: str) -> dict:
    command = [sys.executable, HERE / "peers/trainer_text_classification.py", "--model", arguments.model, *flags]
    command += ["--epochs", str(arguments.epochs), "--batch-size", str(BATCH_SIZE), "--learning-rate", str(LEARNING_RATE)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of the base model")
    parser.add_argument("--epochs", type=int, default=1)
    arguments = parser.parse_args()
    found = {
        "finetuned": ours(arguments),
        "Trainer, tuned (grouped by length, bf16 where it is fast)": trainer(arguments, "--tuned"),
        "Trainer, defaults (fp32)": trainer(arguments),
    }
    base = found["finetuned"]["seconds"]
    print("\n| | seconds | samples/s | finetuned is faster by | test accuracy | peak memory |\n|---|---|---|---|---|---|")
    for name, figures in found.items():
        seconds = figures["seconds"]
        rate, ratio = EXAMPLES * arguments.epochs / seconds, seconds / base
        memory = figures["peak_memory"] / 2**30
        print(f"| {name} | {seconds:.0f} | {rate:.0f} | {ratio:.2f} | {figures['accuracy']:.4f} | {memory:.1f} GiB |")


if __name__ == "__main__":
    main()
