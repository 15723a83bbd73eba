#!/usr/bin/env python3
"""Check finetuned's engine on an NVIDIA GPU: golden tests, the demo's training, a kill and a resume.

    gpu_check.py [--libtorch FOLDER] [--limit ROWS]

Runs inside the folder that gpu_check_bundle.py makes, with that folder's programs. libtorch 2.11.0 is taken from
--libtorch, from FINETUNED_LIBTORCH, from the torch package of this Python, or from where the programs were built.
Without a GPU everything runs on the CPU and says so. The standard library is enough.
"""

import argparse
import csv
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import typing

HERE = pathlib.Path(__file__).resolve().parent
TRAINER = HERE / "finetuned-trainer"
HYPERPARAMETERS = {
    "n_epochs": 3, "batch_size": 32, "learning_rate_multiplier": 1.0, "learning_rate": 3e-4, "lr_schedule": "linear",
    "warmup_ratio": 0.06, "weight_decay": 0.01, "max_grad_norm": 1.0, "gradient_accumulation_steps": 1,
    "max_sequence_length": 512, "precision": "bf16", "eval_interval": "epoch", "checkpoint_interval": "epoch",
    "keep_checkpoints": 3, "class_weights": "none", "label_smoothing": 0.0,
}  # fmt: skip


def libtorch(given: str | None) -> str | None:
    """Folder of libtorch's libraries; None leaves it to the programs."""
    if given or os.environ.get("FINETUNED_LIBTORCH"):
        return given or os.environ["FINETUNED_LIBTORCH"]
    package = importlib.util.find_spec("torch")
    if package is None or not package.origin:
        return None
    folder = pathlib.Path(package.origin).parent
    version = re.search(r"__version__ = '([^']+)'", (folder / "version.py").read_text())
    if version is None or not version[1].startswith("2.11.0"):
        print(f"the torch package of this Python is {version and version[1]}, not 2.11.0: not used")
        return None
    return str(folder / "lib")


def environment(folder: str | None) -> dict[str, str]:
    # As the worker starts trainers (src/process.rs).
    extra = {
        "MALLOC_CONF": "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1,lg_extent_max_active_fit:30",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "CARGO_MANIFEST_DIR": str(HERE / "engine"),
    }
    return {**os.environ, **extra, **({"LD_LIBRARY_PATH": folder} if folder else {})}


class Machine(typing.NamedTuple):
    """Where the checks run."""

    env: dict[str, str]
    device: str
    name: str
    precisions: list[str]


def machine(folder: str | None) -> Machine:
    """What the trainer finds. bf16 on a CPU without units for it would take an hour and tell nothing."""
    env = environment(folder)
    devices = json.loads(subprocess.run([TRAINER, "devices"], env=env, check=True, capture_output=True).stdout)
    precisions = ["bf16", "fp32"] if devices["cuda"] or devices["cpu_bf16"] else ["fp32"]
    if not devices["cuda"]:
        return Machine(env, "cpu", "no GPU found: checked on the CPU", precisions)
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    named = subprocess.run(query, capture_output=True, text=True).stdout.strip() if shutil.which(query[0]) else ""
    return Machine(env, "cuda", named or "a GPU", precisions)


def golden_tests(machine: Machine) -> bool:
    """Runs the engine's tests on the device; prints the largest difference for each tolerance."""
    # One thread: CUDA's generator and peak figures are the process's.
    command = [HERE / "engine-tests", "--test-threads=1", "--nocapture"]
    done = subprocess.run(command, env={**machine.env, "FINETUNED_TEST_DEVICE": machine.device}, capture_output=True, text=True)
    largest: dict[float, tuple[float, str]] = {}
    for found, allowed, what in re.findall(r"difference (\S+) of at most (\S+): (.*)", done.stdout):
        largest[float(allowed)] = max(largest.get(float(allowed), (0.0, "")), (float(found), what))
    for allowed, (found, what) in sorted(largest.items()):
        print(f"  largest difference where {allowed:.0e} is allowed: {found:.2e} ({what})")
    print("  " + "".join(re.findall(r"test result: .*", done.stdout)))
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:], sep="\n")
    return done.returncode == 0


class Run:
    """One run of the trainer in a folder of its own."""

    def __init__(self, folder: pathlib.Path, limit: int | None, hyperparameters: dict):
        self.folder = folder
        folder.mkdir()
        labels: set[str] = set()
        files = {}
        for name in ("training", "validation", "test"):
            with open(HERE / "data" / f"{name}.csv", newline="") as file:
                rows = list(csv.reader(file))
            rows = rows[:1] + rows[1:][:: max(1, len(rows) // limit if limit else 1)]
            with open(folder / f"{name}.csv", "w", newline="") as file:
                csv.writer(file).writerows(rows)
            labels |= {row[1] for row in rows[1:]}
            digest = hashlib.sha256((folder / f"{name}.csv").read_bytes()).hexdigest()
            columns = {"text_column": None, "label_column": None}
            files[name] = {"path": f"{name}.csv", "format": "csv", "sha256": digest, **columns}
        self.spec = {
            "version": 1, "job": "ftjob-gpu-check", "method": "text_classification", "family": "bert",
            "model": str(HERE / "model"), "model_name": "all-MiniLM-L6-v2", "validation_split": 0.1, **files,
            "labels": sorted(labels), "hyperparameters": {**HYPERPARAMETERS, **hyperparameters}, "seed": 42,
            "resume": None, "checkpoints": "checkpoints", "output": "output", "threads": 0,
        }  # fmt: skip

    def start(self, machine: Machine) -> subprocess.Popen:
        (self.folder / "spec.json").write_text(json.dumps(self.spec))
        command = [TRAINER, "run", self.folder / "spec.json", machine.device]
        # The trainer ends when its standard input does.
        return subprocess.Popen(command, env=machine.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def messages(self, process: subprocess.Popen):
        for line in process.stdout:
            yield json.loads(line)
        process.stdin.close()
        if process.wait() not in (0, -9):
            sys.exit(f"the trainer ended with status {process.returncode}")

    def model(self) -> str:
        return hashlib.sha256((self.folder / "output/model.safetensors").read_bytes()).hexdigest()


def training(machine: Machine, scratch: pathlib.Path, limit: int | None) -> bool:
    """The demo's training in each precision."""
    ok = True
    for precision in machine.precisions:
        run = Run(scratch / precision, limit, {"precision": precision})
        # Seconds of the steps themselves, and from the first step's start to the model.
        examples, seconds, peak, started, finished = 0, 0.0, None, 0.0, None
        steps = []
        for message in run.messages(run.start(machine)):
            if message["type"] == "started":
                examples, started = message["training_examples"], time.monotonic()
            elif message["type"] == "step":
                steps.append(message["seconds"])
                peak = message.get("peak_device_memory", peak)
            elif message["type"] == "finished":
                finished, seconds = message, time.monotonic() - started
        accuracy = finished["evaluation"]["test"]["accuracy"] if finished else 0.0
        rate = examples * HYPERPARAMETERS["n_epochs"] / sum(steps)
        # The first steps choose kernels and fill caches.
        settled = sorted(steps[len(steps) // 10 :])[len(steps) * 9 // 20]
        memory = f"{peak / 2**20:.0f} MiB" if peak else "not counted on the CPU"
        print(f"  {precision}: {rate:.0f} samples/s in steps (median step {settled * 1e3:.1f} ms), {seconds:.1f} s with "
              f"evaluations and saving, peak device memory {memory}, test accuracy {accuracy:.4f}", flush=True)  # fmt: skip
        ok &= finished is not None and (limit is not None or accuracy >= 0.905)
    return ok


def kill_and_resume(machine: Machine, scratch: pathlib.Path) -> bool:
    """Kills a run with SIGKILL once a checkpoint is whole, goes on from it, and compares with a run that was left alone."""
    ok = True
    for precision in machine.precisions:
        # A checkpoint is written beside the steps: it may be whole only some steps later.
        short = {"precision": precision, "n_epochs": 4, "checkpoint_interval": 5}
        whole = Run(scratch / f"whole-{precision}", 320, short)
        for _ in whole.messages(whole.start(machine)):
            pass
        broken = Run(scratch / f"broken-{precision}", 320, short)
        process = broken.start(machine)
        saved, last, finished = None, 0, False
        for message in broken.messages(process):
            if message["type"] == "checkpoint" and saved is None:
                saved, broken.spec["resume"] = message["step"], message["directory"]
                process.kill()
            # What it had printed before it died still comes.
            last = message["step"] if message["type"] == "step" else last
            finished |= message["type"] == "finished"
        first = None
        for message in broken.messages(broken.start(machine)):
            first = message["step"] if message["type"] == "started" else first
        same = broken.model() == whole.model()
        print(f"  {precision}: killed after step {last}{', when it had finished' if finished else ''}, went on from step "
              f"{first}, model {'the same bits' if same else 'DIFFERS'}")  # fmt: skip
        ok &= same and not finished and first == saved == 5
    return ok


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libtorch", help="folder of libtorch's libraries")
    parser.add_argument("--limit", type=int, help="train on about so many rows only")
    arguments = parser.parse_args()
    folder = libtorch(arguments.libtorch)
    here = machine(folder)
    print(f"libtorch: {folder or 'where the programs were built'}\ndevice: {here.name}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = {}
        for title, check in {
            "golden tests": lambda: golden_tests(here),
            "the demo's training": lambda: training(here, pathlib.Path(scratch), arguments.limit),
            "kill and resume": lambda: kill_and_resume(here, pathlib.Path(scratch)),
        }.items():
            print(f"{title}:", flush=True)
            outcomes[title] = check()
    failed = [title for title, ok in outcomes.items() if not ok]
    print(f"gpu-check on {here.device}: {'failed: ' + ', '.join(failed) if failed else 'passed'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
