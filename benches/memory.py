#!/usr/bin/env python3
"""What a dry run predicts against what the run then takes: the time of the answer, and peak memory, on Banking77.
The standard library is enough.
"""

import argparse
import json
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import demo

CONFIGURATIONS = [
    {"precision": "fp32", "batch_size": 32},
    {"precision": "bf16", "batch_size": 128},
    {"precision": "bf16", "batch_size": 32, "adapter": {"type": "lora"}},
    {"precision": "fp32", "batch_size": 32, "freeze": {"layers": 4}},
]
MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of the base model")
    arguments = parser.parse_args()
    with demo.running_service(arguments.service, arguments.model) as service:
        api = demo.Api(service.base_url, service.key)
        files = {f"{name}_file": api.upload(demo.DATA / f"{name}.csv") for name in ("training", "validation")}
        for configuration in CONFIGURATIONS:
            hyperparameters = {"n_epochs": 1, **configuration}
            body = {"model": arguments.model.name, **files, "hyperparameters": hyperparameters}
            started = time.monotonic()
            dry = json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps({**body, "dry_run": True})))
            seconds = time.monotonic() - started
            job = json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps(body)))
            while job["status"] in ("validating_files", "queued", "running"):
                time.sleep(0.5)
                job = api.get(f"/fine_tuning/jobs/{job['id']}")
            if job["status"] != "succeeded":
                raise SystemExit(f"the job {job['status']}: {job['error']}")
            predicted, measured = dry["estimate"]["peak_memory_bytes"], job["attempts"][-1]["peak_memory_bytes"]
            print(
                f"{json.dumps(configuration)}: answered in {seconds:.2f} s, predicted {predicted // MIB} MiB, "
                f"measured {measured // MIB} MiB, ratio {predicted / measured:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
