#!/usr/bin/env python3
"""Whether what was learned on some digits helps with others, against a service that this script starts and stops.

A small ResNet with random weights learns the digits 0 to 4 (examples/digits). Then 20 scans of each digit from 5 to 9
are learned twice with the same budget: from that model, and from the random weights again. The rest of those scans is
the test. Python's standard library is enough.
"""

import argparse
import io
import json
import pathlib
import random
import re
import statistics
import tempfile
import time
import zipfile

from demo import Api, download, follow, running_service
from random_resnet import write_model

DATA = pathlib.Path(__file__).resolve().parent / "digits" / "digits.zip"
BASE = "tiny-resnet"
PRETRAINING = {
    "n_epochs": 30,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "precision": "fp32",
    "augmentation": {"random_resized_crop": {"scale": [0.4, 1]}, "random_erasing": 0.5, "mixup": 0.4},
}
# The same small budget for both: ten steps. Each has the learning rate that served it best on other seeds, see
# benches/README.md. Random weights gain nothing from being frozen; those that have learned to see do.
BUDGET = {"n_epochs": 2, "batch_size": 20, "precision": "fp32"}
TRANSFER = {**BUDGET, "learning_rate": 1.6e-2, "freeze": {"layers": 2}}
SCRATCH = {**BUDGET, "learning_rate": 4e-3}
SHOTS = 20
SEEDS = range(1, 6)


def read_scans() -> dict:
    """Digit to its scans, as names and bytes, in the order of the archive."""
    scans: dict = {}
    with zipfile.ZipFile(DATA) as archive:
        for name in archive.namelist():
            scans.setdefault(name.split("/")[0], []).append((name, archive.read(name)))
    return scans


def divide(scans: dict, digits: str, chosen, seed: int) -> tuple:
    """Some scans of each of `digits`, drawn by `seed`, and the others; `chosen` says how many of a list."""
    generator = random.Random(seed)
    first, second = [], []
    for digit in digits:
        shuffled = generator.sample(scans[digit], len(scans[digit]))
        first += shuffled[: chosen(shuffled)]
        second += shuffled[chosen(shuffled) :]
    return first, second


def upload(api: Api, name: str, scans: list) -> str:
    """Uploads the scans as a zip archive and returns the file's id."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, data in scans:
            archive.writestr(path, data)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name
        path.write_bytes(packed.getvalue())
        return api.upload(path)


def create_job(api: Api, model: str, training: str, test: str, seed: int, hyperparameters: dict) -> dict:
    request = {
        "model": model,
        "training_file": training,
        "test_file": test,
        "seed": seed,
        "suffix": "digits",
        "dataset": {"validation_split": 0},
        "method": {"type": "image_classification", "image_classification": {"hyperparameters": hyperparameters}},
    }
    return json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps(request)))


def finished(api: Api, job: dict) -> dict:
    """The job once it has succeeded."""
    while job["status"] in ("validating_files", "queued", "running"):
        time.sleep(0.2)
        job = api.get(f"/fine_tuning/jobs/{job['id']}")
    if job["status"] != "succeeded":
        raise SystemExit(f"the job {job['status']}: {job['error']}")
    return job


def accuracy(job: dict) -> float:
    return job["evaluation"]["test"]["accuracy"]


def waiting(api: Api, job: dict) -> list:
    """Percent of its time that each epoch but the first waited for data: in the first, images are decoded."""
    shares = []
    for event in api.get(f"/fine_tuning/jobs/{job['id']}/events?limit=100")["data"]:
        match = re.fullmatch(r"Epoch (\d+) spent ([\d.]+) % of its time waiting for data", event["message"])
        if match and int(match[1]) > 1:
            shares.append(float(match[2]))
    return shares


def pretrain(api: Api, scans: dict) -> dict:
    """Learns the digits 0 to 4, but for a tenth that is the test."""
    training, test = divide(scans, "01234", lambda all_scans: len(all_scans) * 9 // 10, 0)
    files = upload(api, "training.zip", training), upload(api, "test.zip", test)
    print(f"pre-training on {len(training)} scans of the digits 0 to 4", flush=True)
    job = follow(api, create_job(api, BASE, *files, 0, PRETRAINING))
    print(f"accuracy on {len(test)} others of them: {accuracy(job):.4f}", flush=True)
    return job


def compare(api: Api, scans: dict, pretrained: str) -> list:
    """A pair of finished jobs for each seed: from the pre-trained model, and from scratch."""
    created = []
    for seed in SEEDS:
        training, test = divide(scans, "56789", lambda _: SHOTS, seed)
        files = upload(api, "training.zip", training), upload(api, "test.zip", test)
        arms = ((pretrained, TRANSFER), (BASE, SCRATCH))
        created.append([create_job(api, model, *files, seed, values) for model, values in arms])
    print(f"fine-tuning on {SHOTS} scans of each digit from 5 to 9, {BUDGET['n_epochs']} epochs", flush=True)
    pairs = []
    for seed, jobs in zip(SEEDS, created):
        pairs.append([finished(api, job) for job in jobs])
        transfer, scratch = map(accuracy, pairs[-1])
        print(f"seed {seed}: transfer {transfer:.4f}  from scratch {scratch:.4f}", flush=True)
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/demo-image"), help="for a model")
    arguments = parser.parse_args()
    scans = read_scans()
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder) / BASE
        write_model(base)
        # Steps this small are faster on one thread: the other cores make the batches.
        with running_service(arguments.service, base, more=("--trainer-threads", "1")) as service:
            print(f"service at {service.base_url}")
            api = Api(service.base_url, service.key)
            pretrained = pretrain(api, scans)
            pairs = compare(api, scans, pretrained["fine_tuned_model"])
            shares = [waiting(api, job) for job in [pretrained, *(job for pair in pairs for job in pair)]]
            directory = download(api, pairs[0][0]["fine_tuned_model"], arguments.out)
    print(f"model of seed {SEEDS[0]}: {directory}")
    for what, found in (("pre-training", shares[0]), ("fine-tuning", [share for job in shares[1:] for share in job])):
        middle, most = statistics.median(found), max(found)
        print(f"waiting for data in epochs from the second on, {what}: median {middle:.1f} %, at most {most:.1f} %")
    transfer, scratch = (statistics.mean(accuracy(pair[arm]) for pair in pairs) for arm in (0, 1))
    print(f"transfer accuracy: {transfer:.4f}  from scratch: {scratch:.4f}")


if __name__ == "__main__":
    main()
