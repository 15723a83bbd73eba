#!/usr/bin/env python3
"""What runs cost each other: images per second of one, two and four trainings at once on one machine, each number of them
in slots of one service and in services that know nothing of each other; and of one beside processes that only compute.

A small ViT (5.5 million random parameters) learns generated images of 128 by 128 pixels. The standard library is enough.
"""

import argparse
import contextlib
import io
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import demo
from random_resnet import PROCESSOR, write_safetensors

MODEL = "small-vit"
SIDE, PATCH, WIDTH, LAYERS, INNER = 128, 16, 192, 12, 768
CONFIG = {
    "architectures": ["ViTModel"],
    "model_type": "vit",
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 3,
    "intermediate_size": INNER,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "image_size": SIDE,
    "patch_size": PATCH,
    "num_channels": 3,
    "qkv_bias": True,
}
IMAGES, LABELS, BATCH = 512, 4, 16


def write_vit(directory: pathlib.Path) -> None:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    size = {"height": SIDE, "width": SIDE}
    (directory / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, "size": size}))
    generator = random.Random(0)
    values = [generator.gauss(0, 0.02) for _ in range(1 << 16)]
    noise = struct.pack(f"<{len(values)}f", *values)
    tensors = {}

    def add(name: str, *shape: int, constant: float | None = None) -> None:
        count = 1
        for length in shape:
            count *= length
        data = (noise * (4 * count // len(noise) + 1))[: 4 * count] if constant is None else struct.pack("<f", constant) * count
        tensors[name] = ("F32", list(shape), data)

    def layer(name: str, output: int, width: int) -> None:
        add(f"{name}.weight", output, width)
        add(f"{name}.bias", output, constant=0.0)

    def norm(name: str) -> None:
        add(f"{name}.weight", WIDTH, constant=1.0)
        add(f"{name}.bias", WIDTH, constant=0.0)

    add("embeddings.cls_token", 1, 1, WIDTH)
    add("embeddings.position_embeddings", 1, (SIDE // PATCH) ** 2 + 1, WIDTH)
    add("embeddings.patch_embeddings.projection.weight", WIDTH, 3, PATCH, PATCH)
    add("embeddings.patch_embeddings.projection.bias", WIDTH, constant=0.0)
    for index in range(LAYERS):
        path = f"encoder.layer.{index}"
        for part in ("attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense"):
            layer(f"{path}.{part}", WIDTH, WIDTH)
        layer(f"{path}.intermediate.dense", INNER, WIDTH)
        layer(f"{path}.output.dense", WIDTH, INNER)
        norm(f"{path}.layernorm_before")
        norm(f"{path}.layernorm_after")
    norm("layernorm")
    write_safetensors(directory / "model.safetensors", tensors)


def png(generator: random.Random) -> bytes:
    """Noise, eight bits in three channels."""
    rows = b"".join(b"\0" + generator.randbytes(3 * SIDE) for _ in range(SIDE))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def images() -> bytes:
    """A zip archive of images, the labels in turn."""
    packed, generator = io.BytesIO(), random.Random(1)
    with zipfile.ZipFile(packed, "w") as archive:
        for index in range(IMAGES):
            archive.writestr(f"{index % LABELS}/{index}.png", png(generator))
    return packed.getvalue()


class Run:
    """A training that goes on until it is cancelled."""

    def __init__(self, api: demo.Api, file: str):
        hyperparameters = {"n_epochs": 50, "batch_size": BATCH, "eval_interval": 100_000, "checkpoint_interval": 100_000}
        method = {"type": "image_classification", "image_classification": {"hyperparameters": hyperparameters}}
        body = {"model": MODEL, "training_file": file, "dataset": {"validation_split": 0}, "method": method}
        self.api, self.id = api, json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps(body)))["id"]

    def step(self) -> int:
        job = self.api.get(f"/fine_tuning/jobs/{self.id}")
        if job["status"] not in ("validating_files", "queued", "running"):
            raise SystemExit(f"the job {job['status']}: {job['error']}")
        return (job.get("progress") or {}).get("step", 0)

    def cancel(self) -> None:
        self.api.call("POST", f"/fine_tuning/jobs/{self.id}/cancel")


@contextlib.contextmanager
def computing(processes: int):
    """So many processes that each keep a core busy, in sessions of their own as other services are: Linux gives sessions
    equal shares (`sched(7)`, autogroup), and only within one does a trainer's nice value count."""
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command, start_new_session=True) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def rates(program: pathlib.Path, model: pathlib.Path, archive: pathlib.Path, services: int, slots: int, seconds: float) -> list:
    """Images per second of each of `slots` runs in each of `services` services, all at work at once."""
    with contextlib.ExitStack() as stack:
        runs = []
        for _ in range(services):
            service = stack.enter_context(demo.running_service(program, model, more=("--slots", str(slots))))
            api = demo.Api(service.base_url, service.key)
            file = api.upload(archive)
            runs += [Run(api, file) for _ in range(slots)]
        # The first epoch decodes the images.
        while min(run.step() for run in runs) < IMAGES // BATCH:
            time.sleep(0.5)
        # The service hears of steps once a second.
        time.sleep(1)
        begun, before = time.monotonic(), [run.step() for run in runs]
        time.sleep(seconds)
        after, took = [run.step() for run in runs], time.monotonic() - begun
        for run in runs:
            run.cancel()
    return [(last - first) * BATCH / took for first, last in zip(before, after)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each number of runs is watched")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model, archive = pathlib.Path(scratch) / MODEL, pathlib.Path(scratch) / "images.zip"
        write_vit(model)
        archive.write_bytes(images())
        alone = None

        def measure(what: str, services: int, slots: int) -> None:
            nonlocal alone
            found = rates(arguments.service, model, archive, services, slots, arguments.seconds)
            alone = alone or sum(found)
            each = ", ".join(f"{rate:.1f}" for rate in found)
            print(f"| {what} | {each} | {sum(found):.1f} | {sum(found) / alone:.2f} |", flush=True)

        print("| runs | images/s of each | sum | of one alone |\n|---|---|---|---|")
        measure("one", 1, 1)
        measure("two, slots of one service", 1, 2)
        measure("two, a service each", 2, 1)
        measure("four, slots of one service", 1, 4)
        measure("four, a service each", 4, 1)
        for processes in (1, 2):
            with computing(processes):
                measure(f"one, beside {processes} that compute", 1, 1)


if __name__ == "__main__":
    main()
