#!/usr/bin/env python3
"""The service under load: latency of a job request while a training run keeps all cores busy, against the same
service at rest; how many a second it answers, where wrk is installed; and its memory during an upload of 1 GiB.
"""

import argparse
import concurrent.futures
import http.client
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import demo

RATES = {50: 2000, 500: 10_000}
CONNECTIONS, SECONDS = 64, 10
UPLOAD_BYTES = 1 << 30


def latencies(api: demo.Api, path: str, rate: int) -> list[float]:
    """Milliseconds of each request, counted from when it was due, so that waiting in line counts."""
    local = threading.local()

    def request(due: float) -> float:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(api.address, timeout=60)
        local.connection.request("GET", api.prefix + path, headers={"Authorization": f"Bearer {api.key}"})
        response = local.connection.getresponse()
        response.read()
        if response.status != 200:
            raise SystemExit(f"GET {path}: {response.status}")
        return (time.monotonic() - due) * 1e3

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        start, futures = time.monotonic() + 0.1, []
        for i in range(RATES[rate]):
            due = start + i / rate
            time.sleep(max(0.0, due - time.monotonic()))
            futures.append(pool.submit(request, due))
        return sorted(future.result() for future in futures)


def shown(times: list[float]) -> str:
    p99 = times[int(len(times) * 0.99)]
    return f"median {statistics.median(times):.1f} ms, p99 {p99:.1f} ms, most {times[-1]:.1f} ms ({len(times)} requests)"


def reads_a_second(api: demo.Api, path: str) -> str:
    """What wrk says of as many requests as are answered, on this machine's own cores."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", "-H", f"Authorization: Bearer {api.key}"]
    told = subprocess.run([*command, f"http://{api.address}{api.prefix}{path}"], stdout=subprocess.PIPE, text=True, check=True).stdout
    if "Non-2xx" in told:
        raise SystemExit(told)
    return next(line.split()[1] for line in told.splitlines() if line.startswith("Requests/sec"))


def resident(pid: int) -> int:
    """Bytes of resident memory of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def upload_memory(api: demo.Api, pid: int) -> tuple[int, int]:
    """Resident memory before an upload of 1 GiB, and the most during it."""
    boundary, line = "b" * 32, b'{"text": "' + b"x" * 1000 + b'", "label": "a"}\n'
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="large.jsonl"\r\n\r\n'
    tail = f"\r\n--{boundary}--\r\n".encode()
    lines = UPLOAD_BYTES // len(line)

    def body():
        yield head.encode()
        for _ in range(lines // 64):
            yield line * 64
        yield tail

    before = most = resident(pid)
    done = threading.Event()

    def watch():
        nonlocal most
        while not done.wait(0.02):
            most = max(most, resident(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    connection = http.client.HTTPConnection(api.address, timeout=600)
    headers = {"Authorization": f"Bearer {api.key}", "Content-Type": f"multipart/form-data; boundary={boundary}"}
    connection.request("POST", api.prefix + "/files", body(), headers, encode_chunked=True)
    response = connection.getresponse()
    answer = json.loads(response.read())
    done.set()
    watcher.join()
    if response.status != 200:
        raise SystemExit(f"upload: {response.status} {answer}")
    return before, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of the base model")
    arguments = parser.parse_args()
    with demo.running_service(arguments.service, arguments.model, more=("--rate-limit", "0")) as service:
        api = demo.Api(service.base_url, service.key)
        print(f"memory of the idle service: {resident(service.pid) / 2**20:.0f} MiB", flush=True)
        job = demo.create_job(api, arguments.model.name, demo.HYPERPARAMETERS)
        path = f"/fine_tuning/jobs/{job['id']}"
        while not (progress := api.get(path)["progress"]) or progress["step"] == 0:
            time.sleep(0.2)
        busy = {rate: latencies(api, path, rate) for rate in RATES}
        if api.get(path)["status"] != "running":
            raise SystemExit("the training run ended before the requests did")
        for rate, times in busy.items():
            print(f"{rate}/s while training: {shown(times)}", flush=True)
        api.call("POST", f"{path}/cancel", "")
        time.sleep(3)
        for rate in RATES:
            print(f"{rate}/s at rest:        {shown(latencies(api, path, rate))}", flush=True)
        if shutil.which("wrk"):
            print(f"reads a second, {CONNECTIONS} connections: {reads_a_second(api, path)}", flush=True)
        before, most = upload_memory(api, service.pid)
        print(f"upload of 1 GiB: {before / 2**20:.0f} MiB before, {most / 2**20:.0f} MiB at most, "
              f"{(most - before) / 2**20:.0f} MiB more")  # fmt: skip


if __name__ == "__main__":
    main()
