#!/usr/bin/env python3
"""Tuning a small language model: our service against TRL and PEFT with the same weights, data, order and hyperparameters.

    --modes speed      tokens per second and peak memory of LoRA: ours, TRL as it comes, TRL packed, in turns
    --modes quality    the validation loss after some steps of LoRA, and of all weights, for several seeds
    --modes dpo        reward margin and accuracy on held-out preferences
    --modes memory     the peak that was predicted of a run, and the one that was measured; ours alone

Runs in a Python that has trl; see benches/README.md.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import chats
import demo

LORA_R = 16
LORA = {"type": "lora", "r": LORA_R, "alpha": 2 * LORA_R, "dropout": 0.0}
RATES = {"lora": 1e-3, "full": 1e-4, "dpo": 5e-4}
# A file to train on, and one to validate with.
Files = tuple[pathlib.Path, pathlib.Path | None]
# What is measured of a step of preference tuning.
PREFERRED = ("train_loss", "train_reward_margin", "train_accuracy")
# Steps whose means are a point of a curve.
CURVE_STEPS = 10
# Of losses before anything is trained, in nats, where both sides read and learn the same.
LARGEST_DIFFERENCE = {"fp32": 2e-3, "bf16": 5e-2}


def fast_precision() -> str:
    """bf16 where the processor has units for it; without them it is many times slower than fp32."""
    return "bf16" if " avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text() else "fp32"


class Bench:
    """A service with the model, its folder for the peer, and the options of the command line."""

    def __init__(self, service: demo.Service, arguments: argparse.Namespace, scratch: pathlib.Path):
        self.api, self.arguments, self.scratch = demo.Api(service.base_url, service.key), arguments, scratch
        (self.model,) = (model["id"] for model in self.api.get("/models")["data"])
        self.folder = demo.download(self.api, self.model, scratch / "model")

    def post(self, path: str, body: dict) -> dict:
        return json.loads(self.api.call("POST", path, json.dumps(body)))

    def watched(self, job: dict) -> tuple[dict, dict]:
        """The job once it has succeeded, and when it was first seen to have done each step."""
        seen: dict = {}
        while job["status"] in ("validating_files", "queued", "running"):
            time.sleep(0.1)
            job = self.api.get(f"/fine_tuning/jobs/{job['id']}")
            seen.setdefault((job["progress"] or {"step": 0})["step"], time.monotonic())
        if job["status"] != "succeeded":
            raise SystemExit(f"the job {job['status']}: {job['error']}")
        return job, seen

    def ours(self, method: str, files: Files, rate: float, seed: int, more: dict) -> dict:
        """A run of the service's; `more` are further hyperparameters."""
        training, validation = files
        hyperparameters = {
            "n_epochs": 1,
            "batch_size": self.arguments.batch_size,
            "learning_rate": rate,
            "max_sequence_length": self.arguments.max_length,
            "precision": self.arguments.precision,
            "checkpoint_interval": 10**6,
            "adapter": LORA,
        } | more
        request = {"model": self.model, "training_file": self.api.upload(training), "seed": seed}
        if validation:
            request["validation_file"] = self.api.upload(validation)
        else:
            request["dataset"] = {"validation_split": 0}
        request["method"] = {"type": method, method: {"hyperparameters": hyperparameters}}
        job, seen = self.watched(self.post("/fine_tuning/jobs", request))
        estimate = job["estimate"]
        metrics = self.api.get(f"/fine_tuning/jobs/{job['id']}/metrics?limit=10000")["data"]
        rows = {row["step"]: row["metrics"] for row in metrics if "trained_tokens" in row["metrics"]}
        attempt = job["attempts"][-1]
        return {
            "seconds": attempt["ended_at"] - attempt["started_at"],
            "peak_memory": attempt["peak_memory_bytes"],
            "predicted_memory": estimate["peak_memory_bytes"],
            "predicted_tokens": estimate["tokens_per_epoch"],
            "losses": [rows[step]["train_loss"] for step in sorted(rows)],
            "preferred": [[rows[step].get(name) for name in PREFERRED] for step in sorted(rows)],
            "progress": [(rows[step]["trained_tokens"], seen[step]) for step in sorted(rows) if step in seen],
            "after": (job["evaluation"] or {}).get("validation"),
        }

    def theirs(self, method: str, files: Files, rate: float, seed: int, more: dict) -> dict:
        """A run of TRL's; `more` are further flags of the peer."""
        training, validation = files
        flags = {"method": method, "model": self.folder, "training": training, "batch-size": self.arguments.batch_size}
        flags |= {"learning-rate": rate, "max-length": self.arguments.max_length, "seed": seed, "lora-r": LORA_R} | more
        flags |= {"validation": validation} if validation else {}
        command = [sys.executable, HERE / "peers/trl_language_models.py"]
        command += [f"--{name}={value}" for name, value in flags.items() if value is not True]
        command += [f"--{name}" for name, value in flags.items() if value is True]
        command += ["--bf16"] if self.arguments.precision == "bf16" else []
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        return found | {"progress": list(zip(found["tokens"], found["times"]))}

    def same_start(self, ours: float, theirs: float, what: str) -> None:
        print(f"{what}: finetuned {ours:.4f}, TRL {theirs:.4f}", flush=True)
        if abs(ours - theirs) > LARGEST_DIFFERENCE[self.arguments.precision]:
            raise SystemExit(f"{what} should be equal: both sides do not learn the same")

    def write(self, name: str, rows: list[dict]) -> pathlib.Path:
        return chats.write(self.scratch / f"{name}.jsonl", rows)


def rate_of(run: dict) -> float:
    """Tokens per second between the ends of the first and of the last step that were seen."""
    (first, started), *_, (last, ended) = run["progress"]
    return (last - first) / (ended - started)


def speed(bench: Bench) -> None:
    arguments, rate = bench.arguments, RATES["lora"]
    rows, _ = chats.chats(arguments.data, arguments.speed_steps * arguments.batch_size, 0, 1)
    files = bench.write("speed", rows), None
    as_it_comes, packed = {"gradient-checkpointing": True}, {"packing": True, "batch-size": arguments.packed_rows}
    sides = {
        "finetuned": lambda: bench.ours("supervised", files, rate, 1, {}),
        f"finetuned packed, {arguments.packed_rows} x {arguments.max_length}": lambda: bench.ours(
            "supervised", files, rate, 1, {"packing": True, "batch_size": arguments.packed_rows}
        ),
        "TRL as it comes": lambda: bench.theirs("supervised", files, rate, 1, as_it_comes),
        f"TRL packed, {arguments.packed_rows} x {arguments.max_length}": lambda: bench.theirs(
            "supervised", files, rate, 1, packed
        ),
    }
    runs: dict = {name: [] for name in sides}
    for _ in range(arguments.rounds):
        for name, run in sides.items():
            runs[name].append(run())
            print(f"{name}: {rate_of(runs[name][-1]):.0f} tokens/s", flush=True)
    ours, usual = (runs[name][0]["losses"][0] for name in ("finetuned", "TRL as it comes"))
    bench.same_start(ours, usual, "loss of the first batch")
    base = statistics.median(map(rate_of, runs["finetuned"]))
    print("\n| | tokens/s | finetuned is faster by | peak memory | of finetuned's | tokens | whole run |")
    print("|---|---|---|---|---|---|---|")
    for name, found in runs.items():
        each = statistics.median(map(rate_of, found))
        memory, least = (max(run["peak_memory"] for run in one) for one in (found, runs["finetuned"]))
        seconds = statistics.median(run["seconds"] for run in found)
        figures = f"{each:.0f} | {base / each:.2f} | {memory / 2**30:.1f} GiB | {memory / least:.2f}"
        print(f"| {name} | {figures} | {found[0]['progress'][-1][0]:.0f} | {seconds:.0f} s |")


def evaluated(bench: Bench, file: pathlib.Path) -> float:
    """The loss of the model as it is."""
    own = {"precision": bench.arguments.precision, "max_sequence_length": bench.arguments.max_length}
    method = {"type": "supervised", "supervised": {"hyperparameters": own}}
    body = {"model": bench.model, "test_file": bench.api.upload(file), "method": method}
    found = bench.post("/evaluations", body)
    while found["status"] in ("validating_files", "queued", "running"):
        time.sleep(0.2)
        found = bench.api.get(f"/evaluations/{found['id']}")
    if found["status"] != "succeeded":
        raise SystemExit(f"the evaluation {found['status']}: {found['error']}")
    return found["scores"]["loss"]


def quality(bench: Bench) -> None:
    arguments = bench.arguments
    size = arguments.quality_batch_size
    our_size, their_size = {"batch_size": size}, {"batch-size": size}
    ways = {"lora": (our_size, their_size), "full": (our_size | {"adapter": "none"}, their_size | {"lora-r": 0})}
    found: dict = {(way, side): [] for way in ways for side in ("finetuned", "TRL")}
    for seed in arguments.seeds:
        count = arguments.quality_steps * arguments.quality_batch_size
        rows = chats.chats(arguments.data, count, arguments.validation_rows, seed)
        files = bench.write("quality-training", rows[0]), bench.write("quality-validation", rows[1])
        before = evaluated(bench, files[1])
        for way, (our_more, their_more) in ways.items():
            ours = bench.ours("supervised", files, RATES[way], seed, our_more)
            theirs = bench.theirs("supervised", files, RATES[way], seed, their_more)
            bench.same_start(before, theirs["before"]["loss"], f"seed {seed}, validation loss before")
            for side, run in (("finetuned", ours), ("TRL", theirs)):
                found[way, side].append(run["after"]["loss"])
                print(f"seed {seed}, {way}, {side}: {run['after']['loss']:.4f} in {run['seconds']:.0f} s", flush=True)
    print(f"\n| trained | by | validation loss after {arguments.quality_steps} steps, by seed | mean | spread |")
    print("|---|---|---|---|---|")
    for (way, side), values in found.items():
        each = ", ".join(f"{value:.4f}" for value in values)
        print(f"| {way} | {side} | {each} | {statistics.mean(values):.4f} | {min(values):.4f} to {max(values):.4f} |")


def dpo(bench: Bench) -> None:
    arguments = bench.arguments
    rows = chats.preferences(arguments.preferences, arguments.pairs, arguments.validation_pairs, 1)
    files = bench.write("dpo-training", rows[0]), bench.write("dpo-validation", rows[1])
    beta = {"beta": arguments.beta}
    runs = {
        "finetuned": bench.ours("dpo", files, RATES["dpo"], 1, beta),
        "TRL": bench.theirs("dpo", files, RATES["dpo"], 1, beta),
    }
    print(f"\n| {arguments.validation_pairs} held-out pairs | reward margin | accuracy | loss | whole run |")
    print("|---|---|---|---|---|")
    for name, run in runs.items():
        after = run["after"]
        figures = f"{after['reward_margin']:.3f} | {after['accuracy']:.3f} | {after['loss']:.4f}"
        print(f"| {name} | {figures} | {run['seconds']:.0f} s |")
    curves = [runs[name]["preferred"] for name in ("finetuned", "TRL")]
    print("\n| steps | loss | TRL's | reward margin | TRL's | accuracy | TRL's |\n|---|---|---|---|---|---|---|")
    for start in range(0, len(curves[0]), CURVE_STEPS):
        parts = [curve[start : start + CURVE_STEPS] for curve in curves]
        means = [[statistics.mean(column) for column in zip(*part)] for part in parts]
        figures = " | ".join(f"{value:.3f}" for pair in zip(*means) for value in pair)
        print(f"| {start + 1} to {start + len(parts[0])} | {figures} |")


def memory(bench: Bench) -> None:
    """Runs of a few steps that differ in what memory is spent on."""
    arguments = bench.arguments
    rows, _ = chats.chats(arguments.data, 4 * arguments.batch_size, 0, 1)
    files = bench.write("memory", rows), None
    full = {"adapter": "none", "batch_size": arguments.batch_size // 2}
    packed = {"packing": True, "batch_size": arguments.packed_rows}
    quantized = {"adapter": LORA | {"quantization": "nf4"}}
    layers = {"gradient_checkpointing": 10**4}
    cases = {
        "LoRA": {}, "LoRA, packed": packed, "LoRA, 10 layers computed again": {"gradient_checkpointing": 10},
        "LoRA, all layers computed again": layers, "QLoRA": quantized, "QLoRA, all layers computed again": quantized | layers,
        "all weights": full, "all weights, all layers computed again": full | layers,
        "all weights, adamw_8bit": full | {"optimizer": "adamw_8bit"},
    }  # fmt: skip
    print("\n| | tokens, predicted | tokens | predicted | measured | predicted of measured | tokens/s |\n|---|---|---|---|---|---|---|")
    for name, more in cases.items():
        run = bench.ours("supervised", files, RATES["lora"], 1, more)
        predicted, measured = run["predicted_memory"], run["peak_memory"]
        sizes = f"{run['predicted_tokens']} | {run['progress'][-1][0]:.0f} | {predicted / 2**20:.0f} MiB | {measured / 2**20:.0f} MiB"
        print(f"| {name} | {sizes} | {predicted / measured:.2f} | {rate_of(run):.0f} |", flush=True)


MODES = {"speed": speed, "quality": quality, "dpo": dpo, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="GGUF file or directory of the base model")
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--data", type=pathlib.Path, help="chats in OpenAI's format in the place of Banking77")
    parser.add_argument("--preferences", type=pathlib.Path, help="preferences in OpenAI's format, likewise")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default=fast_precision())
    parser.add_argument("--batch-size", type=int, default=8, help="of speed and dpo")
    parser.add_argument("--max-length", type=int, default=512, help="tokens of an example, and of TRL's packed rows")
    parser.add_argument("--packed-rows", type=int, default=2, help="of a batch where TRL packs")
    parser.add_argument("--speed-steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2, help="how often each side takes its turn")
    parser.add_argument("--quality-steps", type=int, default=60)
    parser.add_argument("--quality-batch-size", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--validation-rows", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--validation-pairs", type=int, default=96)
    parser.add_argument("--beta", type=float, default=0.1)
    arguments = parser.parse_args()
    print(f"{arguments.model.name} in {arguments.precision}")
    with tempfile.TemporaryDirectory() as scratch, demo.running_service(arguments.service, arguments.model) as service:
        bench = Bench(service, arguments, pathlib.Path(scratch))
        for mode in arguments.modes:
            print(f"\n{mode}", flush=True)
            MODES[mode](bench)


if __name__ == "__main__":
    main()
