#!/usr/bin/env python3
"""What hostile requests cost: memory of the service and of its models at work under each attack, and under all of them
at once. The standard library is enough. Every loop is bounded, and nothing leaves the loopback address.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import io
import json
import pathlib
import socket
import struct
import sys
import threading
import time
import zipfile
import zlib

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import demo
import random_resnet

MIB = 1 << 20
SIDE = 8192
CLIENTS = 8
READ_TOKENS = 16


# ---- what is looked at ---------------------------------------------------------------------------------------


def resident(pid: int) -> int:
    """Bytes of resident memory of a process; 0 once it is gone."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)


def models_at_work(service: int) -> list[int]:
    """The processes below the service that are trainers or answer with a model."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parent = int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            if parent == service and b"finetuned-trainer" in path.joinpath("cmdline").read_bytes():
                found.append(int(path.name))
        except (OSError, IndexError):
            continue
    return found


class Watch:
    """Most resident memory of the service, and of the models at work together, while it lasts."""

    def __init__(self, pid: int):
        self.pid, self.service, self.models, self.ended = pid, 0, 0, threading.Event()

    def __enter__(self):
        self.before = self.service = resident(self.pid)
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        while not self.ended.wait(0.05):
            self.service = max(self.service, resident(self.pid))
            self.models = max(self.models, sum(map(resident, models_at_work(self.pid))))

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        time.sleep(2)
        self.after = resident(self.pid)

    def __str__(self):
        models = f", models at work {self.models / MIB:.0f}" if self.models else ""
        return (
            f"service {self.before / MIB:.0f} MiB before, {self.service / MIB:.0f} at most, "
            f"{self.after / MIB:.0f} two seconds after{models}"
        )


# ---- requests ------------------------------------------------------------------------------------------------


def send(api: demo.Api, method: str, path: str, body=None, content_type="application/json", key=True) -> tuple[int, bytes]:
    """Status and answer, whatever they are; 0 where the connection was cut."""
    connection = http.client.HTTPConnection(api.address, timeout=120)
    headers = {"Content-Type": content_type}
    if key:
        headers["Authorization"] = f"Bearer {api.key}"
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def statuses(results) -> str:
    counted: dict = {}
    for status, _ in results:
        counted[status] = counted.get(status, 0) + 1
    return ", ".join(f"{count} x {status}" for status, count in sorted(counted.items()))


def at_once(count: int, work) -> list:
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def upload(api: demo.Api, name: str, data: bytes) -> str:
    boundary = "b" * 32
    part = f'--{boundary}\r\nContent-Disposition: form-data; name='
    body = f'{part}"purpose"\r\n\r\nfine-tune\r\n{part}"file"; filename="{name}"\r\n\r\n'.encode()
    body += data + f"\r\n--{boundary}--\r\n".encode()
    status, answer = send(api, "POST", "/v1/files", body, f"multipart/form-data; boundary={boundary}")
    if status != 200:
        raise SystemExit(f"upload of {name}: {status} {answer[:300]}")
    return json.loads(answer)["id"]


# ---- what is sent --------------------------------------------------------------------------------------------


def large_png() -> bytes:
    """A grey image of SIDE x SIDE pixels with four channels of 16 bits each: half a megabyte that decodes to 512."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, rows = zlib.compressobj(9), b"\0" + b"\x80" * (SIDE * 8)
    packed = b"".join(packer.compress(rows) for _ in range(SIDE)) + packer.flush()
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def image_bomb() -> bytes:
    image, packed = large_png(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(12):
            archive.writestr(f"{'ab'[number % 2]}/{number}.png", image)
    return packed.getvalue()


def objects(mebibytes: int) -> bytes:
    return b"[" + b'{"a":0},' * (mebibytes * MIB // 8) + b'{"a":0}]'


def labelled(rows: int, labels: int, salt: str = "") -> bytes:
    lines = (f"text number {row} of {salt},label {row % labels}\n" for row in range(rows))
    return ("text,label\n" + "".join(lines)).encode()


def many_labels(number: int) -> bytes:
    """A file whose report names 10,000 labels of 200 characters."""
    lines = (f"t{row},{'x' * 190}{number:03}{row:06}\n" for row in range(10_000))
    return ("text,label\n" + "".join(lines)).encode()


# ---- attacks -------------------------------------------------------------------------------------------------


class Site:
    """A service, and what attacks need of it."""

    def __init__(self, service: demo.Service, model: str):
        self.api, self.pid, self.model = demo.Api(service.base_url, service.key), service.pid, model
        self.classifier = None

    def tune(self, training: bytes, test: bytes | None = None, **hyperparameters) -> dict:
        body = {"model": self.model, "training_file": upload(self.api, "training.csv", training), "seed": 1}
        body |= {"hyperparameters": {"n_epochs": 1, "batch_size": 32, **hyperparameters}}
        if test:
            body["test_file"] = upload(self.api, "test.csv", test)
        status, answer = send(self.api, "POST", "/v1/fine_tuning/jobs", json.dumps(body))
        job = json.loads(answer)
        if status != 200:
            raise SystemExit(f"job: {status} {answer[:300]}")
        while job["status"] in ("validating_files", "queued", "running"):
            time.sleep(0.5)
            job = self.api.get(f"/fine_tuning/jobs/{job['id']}")
        return job

    def images(self) -> str:
        file = upload(self.api, "images.zip", image_bomb())
        body = json.dumps({"model": "tiny-resnet", "training_file": file, "dry_run": True})
        return statuses(at_once(4, lambda _: send(self.api, "POST", "/v1/fine_tuning/jobs", body)))

    def bodies(self) -> str:
        body = objects(15)
        return statuses(at_once(CLIENTS, lambda _: send(self.api, "POST", "/v1/classifications", body)))

    def one_text(self) -> str:
        body = json.dumps({"model": self.classifier, "input": "a " * (15 * MIB // 2)})
        return statuses([send(self.api, "POST", "/v1/classifications", body)])

    def lists(self) -> str:
        for number in range(40):
            upload(self.api, "many.csv", many_labels(number))
        results = at_once(CLIENTS, lambda _: send(self.api, "GET", "/v1/files?limit=10000"))
        return f"{statuses(results)}, {len(results[0][1]) / MIB:.1f} MiB each"

    def methods(self) -> str:
        """Invented methods of three thousand letters."""

        def some(client: int) -> None:
            with self.connect() as connection:
                for number in range(2500):
                    method = f"X{client}{'Y' * 3000}{number}"
                    connection.sendall(f"{method} /v1/files HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                    connection.recv(65536)

        at_once(CLIENTS, some)
        return f"/metrics has {len(send(self.api, 'GET', '/metrics')[1]) / MIB:.2f} MiB"

    def readers(self) -> str:
        """Connections that ask for a file and read nothing of it."""
        file = upload(self.api, "large.txt", b"0123456789abcdef" * (4 * MIB))
        head = f"GET /v1/files/{file}/content HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {self.api.key}\r\n\r\n"
        before = self.descriptors()
        sleepers = [self.connect() for _ in range(500)]
        for sleeper in sleepers:
            with contextlib.suppress(OSError):
                sleeper.sendall(head.encode())
        time.sleep(90)
        held = self.descriptors() - before
        for sleeper in sleepers:
            sleeper.close()
        return f"{held} descriptors more are open after 90 s"

    def connect(self) -> socket.socket:
        host, port = self.api.address.rsplit(":", 1)
        return socket.create_connection((host, int(port)))

    def descriptors(self) -> int:
        return len(list(pathlib.Path(f"/proc/{self.pid}/fd").iterdir()))


ATTACKS = ["images", "bodies", "one_text", "lists", "methods", "readers"]
MIXED = ["images", "bodies", "one_text", "methods"]
LABELS = [(1700, 3400, 1700), (2500, 5000, 2500), (10_000, 20_000, 5000)]


def mixed(site: Site, seconds: int) -> str:
    """All at once by eight clients for so long."""
    end, done = time.monotonic() + seconds, {}

    def attack(client: int) -> None:
        while time.monotonic() < end:
            name = MIXED[client % len(MIXED)]
            getattr(site, name)()
            done[name] = done.get(name, 0) + 1

    at_once(CLIENTS, attack)
    return ", ".join(f"{name} {count} times" for name, count in sorted(done.items()))


def labels(site: Site, classes: int, rows: int, test: int) -> str:
    job = site.tune(labelled(rows, classes, "training"), labelled(test, classes, "test"), max_sequence_length=READ_TOKENS)
    predicted = (job["estimate"] or {}).get("peak_memory_bytes") or 0
    measured = max((attempt["peak_memory_bytes"] or 0 for attempt in job["attempts"]), default=0)
    ends = ", ".join(str(attempt["cause"] or attempt["outcome"]) for attempt in job["attempts"])
    ratio = f"ratio {predicted / measured:.2f}" if measured else "no peak"
    return f"{job['status']} ({ends}), predicted {predicted / MIB:.0f} MiB, measured {measured / MIB:.0f} MiB, {ratio}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of the base model")
    parser.add_argument("--only", nargs="*", default=[*ATTACKS, "mixed", "labels"], help="some of them, by name")
    parser.add_argument("--seconds", type=int, default=120, help="how long all at once last")
    arguments = parser.parse_args()
    small = pathlib.Path("target/attacks/tiny-resnet")
    random_resnet.write_model(small)
    works = [name for name in [*ATTACKS, "mixed", "labels"] if name in arguments.only]
    for name in works:
        # A service of its own for each, so that no attack lives on what another one left.
        with demo.running_service(arguments.service, arguments.model, small) as service:
            site = Site(service, arguments.model.name)
            if name == "labels":
                for counts in LABELS:
                    print(f"{counts[0]} labels, {counts[1]} rows: {labels(site, *counts)}", flush=True)
                continue
            if name in ("one_text", "mixed"):
                site.classifier = site.tune(labelled(40, 2), max_sequence_length=READ_TOKENS)["fine_tuned_model"]
            with Watch(site.pid) as watch:
                told = mixed(site, arguments.seconds) if name == "mixed" else getattr(site, name)()
            print(f"{name}: {told}; {watch}", flush=True)
            if name == "mixed":
                time.sleep(60)
                print(f"mixed: {resident(site.pid) / MIB:.0f} MiB a minute after", flush=True)


if __name__ == "__main__":
    main()
