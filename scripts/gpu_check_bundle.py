#!/usr/bin/env python3
"""Put everything that a check on an NVIDIA GPU needs into one folder and one archive, to run on another machine.

    gpu_check_bundle.py MODEL

Writes target/gpu-check/ and target/gpu-check.tar.xz: the trainer and the engine's tests (release, stripped), golden
values, data, base model, gpu_check.py, and the benchmark gpu.py with what it imports. The base model travels in float16: half the size, and a change of its
weights that is far below what fine-tuning does to them.
"""

import array
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "target" / "gpu-check"


def build() -> dict[str, pathlib.Path]:
    """The programs by the name they have in the bundle."""
    cargo = ["cargo", "build", "--release", "--package", "finetuned-engine"]
    subprocess.run(cargo, cwd=ROOT, check=True)
    command = ["cargo", "test", "--release", "--package", "finetuned-engine", "--test", "engine", "--no-run"]
    command.append("--message-format=json-render-diagnostics")
    messages = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    built = [json.loads(line) for line in messages.splitlines()]
    (tests,) = {m["executable"] for m in built if m.get("executable") and m["target"]["name"] == "engine"}
    return {"finetuned-trainer": ROOT / "target/release/finetuned-trainer", "engine-tests": pathlib.Path(tests)}


def halve(source: pathlib.Path, target: pathlib.Path) -> None:
    """Writes a safetensors file of float32 tensors in float16; other tensors are left out."""
    data = source.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    body = memoryview(data)[8 + length :]
    kept, parts, offset = {}, [], 0
    for name, tensor in header.items():
        if tensor.get("dtype") == "F32":
            begin, end = tensor["data_offsets"]
            values = array.array("f", bytes(body[begin:end]))
            parts.append(struct.pack(f"<{len(values)}e", *values))
            kept[name] = {**tensor, "dtype": "F16", "data_offsets": [offset, offset + len(parts[-1])]}
            offset += len(parts[-1])
    text = json.dumps(kept).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.writelines(parts)


def main() -> None:
    model = pathlib.Path(sys.argv[1])
    shutil.rmtree(BUNDLE, ignore_errors=True)
    BUNDLE.mkdir(parents=True)
    for name, program in build().items():
        subprocess.run(["strip", "-o", BUNDLE / name, program], check=True)
    shutil.copy(ROOT / "scripts/gpu_check.py", BUNDLE)
    for name in ("gpu", "llamas", "trainer"):
        shutil.copy(ROOT / f"benches/{name}.py", BUNDLE)
    shutil.copytree(ROOT / "engine/tests/golden", BUNDLE / "engine/tests/golden")
    shutil.copytree(ROOT / "examples/banking77", BUNDLE / "data")
    (BUNDLE / "model").mkdir()
    for file in model.iterdir():
        if file.suffix == ".json":
            shutil.copy(file, BUNDLE / "model")
    halve(model / "model.safetensors", BUNDLE / "model/model.safetensors")
    archive = BUNDLE.with_suffix(".tar.xz")
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(BUNDLE, BUNDLE.name)
    print(f"{archive.relative_to(ROOT)}: {archive.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
