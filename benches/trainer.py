"""The trainer by itself, without a service: a spec in, its steps out."""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import threading

# As the worker starts trainers.
ENVIRONMENT = {
    "MALLOC_CONF": "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1,lg_extent_max_active_fit:30",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
HYPERPARAMETERS = {
    "n_epochs": 1, "learning_rate_multiplier": 1.0, "learning_rate": 1e-4, "lr_schedule": "linear", "warmup_ratio": 0.0,
    "weight_decay": 0.01, "max_grad_norm": 1.0, "gradient_accumulation_steps": 1, "eval_interval": "epoch",
    "checkpoint_interval": 10**6, "keep_checkpoints": 1,
}  # fmt: skip


def add_options(parser: argparse.ArgumentParser, steps: int) -> None:
    """What every comparison of the trainer by itself is asked; `steps` are made unless said."""
    parser.add_argument("--trainer", type=pathlib.Path, required=True, help="the program finetuned-trainer")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--without-peer", action="store_true")
    parser.add_argument("--libtorch-of-torch", action="store_true", help="run it with the libraries of this Python's torch")


def settled(parser: argparse.ArgumentParser, given: list[str] | None, warm_up: int) -> tuple[argparse.Namespace, str]:
    """The options and the device, whose peer has as many threads as the trainer."""
    import torch

    arguments = parser.parse_args(given)
    if arguments.steps <= warm_up:
        raise SystemExit(f"--steps must be more than {warm_up}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.libtorch = str(pathlib.Path(torch.__file__).parent / "lib") if arguments.libtorch_of_torch else None
    return arguments, "cuda" if torch.cuda.is_available() else "cpu"


@dataclasses.dataclass
class Run:
    """Seconds of each step, the most bytes of device memory, and what --profile told."""

    seconds: list[float]
    peak: int | None
    profile: str


def data_file(path: pathlib.Path, kind: str) -> dict:
    return {"path": path.name, "format": kind, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def spec(method: str, training: dict, hyperparameters: dict, labels: list[str], threads: int) -> dict:
    """A run on the model in the folder `model` beside it, without validation and test."""
    return {
        "version": 2, "job": "ftjob-bench", "method": method, "model": "model", "model_name": "random", "training": training,
        "validation": None, "validation_split": 0.0, "test": None, "labels": labels,
        "hyperparameters": HYPERPARAMETERS | hyperparameters, "seed": 1, "resume": None, "checkpoints": "checkpoints",
        "output": "output", "threads": threads,
    }  # fmt: skip


def run(trainer: pathlib.Path, folder: pathlib.Path, written: dict, device: str, libtorch: str | None, profiled: bool = False) -> Run:
    """Runs a spec to its end. `libtorch` is the folder of its libraries where they are not those that it was built with."""
    (folder / "spec.json").write_text(json.dumps(written))
    env = os.environ | ENVIRONMENT | ({"LD_LIBRARY_PATH": libtorch} if libtorch else {})
    command = [trainer, "run", folder / "spec.json", device] + (["--profile"] if profiled else [])
    # The trainer ends when its standard input does.
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen(command, env=env, **pipes)
    told: list[str] = []
    reader = threading.Thread(target=lambda: told.extend(process.stderr))
    reader.start()
    seconds, peak = [], None
    for line in process.stdout:
        message = json.loads(line)
        if message["type"] == "step":
            seconds.append(message["seconds"])
            peak = message.get("peak_device_memory") or peak
        if message["type"] == "failed":
            raise SystemExit(message["error"])
    process.stdin.close()
    status = process.wait()
    reader.join()
    if status:
        raise SystemExit(f"the trainer ended with status {status}: {''.join(told)}")
    text = "".join(told)
    return Run(seconds, peak, text[text.find("| part of the loop") :] if profiled else "")
