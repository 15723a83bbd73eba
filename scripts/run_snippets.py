#!/usr/bin/env python3
"""Run the snippets of README.md and docs/ as they are printed, in order.

    run_snippets.py --service PROGRAM --model DIRECTORY [--python PROGRAM] [DOCUMENT ...]
    run_snippets.py --list [DOCUMENT ...]

Each document is one bash that stops at the first command that fails; documents run side by side. With --service they
have a service of their own, with a throw-away state folder and the base model in DIRECTORY; without it, the one that
OPENAI_BASE_URL and OPENAI_API_KEY name. Blocks of sh and python are run; text, json and csv are for reading, and no other
kind is allowed, so that no snippet escapes by its name.
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import typing

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))

import demo  # noqa: E402

RUN, READ = ("sh", "python"), ("text", "json", "csv")

# What is not run: document and first line of the block, with the reason.
NOT_RUN = {
    ("README.md", "sudo apt-get install -y git g++ make python3-pip python3-venv curl jq"): "changes the machine",
    ("README.md", "make demo"): "builds a release and trains for minutes; it has a service of its own",
    ("README.md", "make serve"): "goes on until it is stopped; this script starts the service",
    ("README.md", 'export PATH="$PWD/target/release:$PATH"'): "this script puts the programs that it was given on the path",
    ("docs/models.md", "FROM=https://huggingface.co/distilbert/distilbert-base-uncased/resolve/main"): "downloads 268 MB",
    ("docs/operations.md", "docker compose up --build --detach"): "needs Docker",
}

# How long one document may take, in seconds: far more than it does.
LIMIT = 900

# The status of timeout(1) where it had to end the command.
TIMED_OUT = 124


class Snippet(typing.NamedTuple):
    """A block of a document."""

    document: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def reason(self) -> str | None:
        """Why it is not run, if it is not."""
        return NOT_RUN.get((self.document, self.text.split("\n", 1)[0]))


def documents() -> list[pathlib.Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(path: pathlib.Path) -> list[Snippet]:
    """The document's blocks that are for running, in order."""
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
    found, start, language = [], None, ""
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines, 1):
        fence = re.match(r"\s*```\s*(\S*)", line)
        if fence and start is None:
            start, language = number, fence[1]
            if language not in RUN + READ:
                sys.exit(f"{name}:{number}: a block of {language or 'nothing'}; expected one of {', '.join(RUN + READ)}")
        elif fence:
            if language in RUN:
                found.append(Snippet(name, start, language, "\n".join(lines[start : number - 1])))
            start = None
    if start is not None:
        sys.exit(f"{name}:{start}: a block without an end")
    return found


def script(found: list[Snippet]) -> str:
    """One program for bash that says each snippet before it runs it."""
    parts = ["set -euo pipefail", "trap 'status=$?; [ $status = 0 ] || echo \"*** $SNIPPET failed: status $status\"' EXIT"]
    for snippet in found:
        shown = "\n".join(f"    {line}".rstrip() for line in snippet.text.split("\n"))
        parts.append(f"SNIPPET={shlex.quote(snippet.place)}")
        heading = f"--- {snippet.place}" + (f" (not run: {snippet.reason})" if snippet.reason else "")
        parts.append(f"printf '%s\\n' {shlex.quote(heading)} {shlex.quote(shown)}")
        if snippet.reason:
            continue
        parts.append(snippet.text if snippet.language == "sh" else f'"$PYTHON" -c {shlex.quote(snippet.text)}')
    return "\n".join(parts) + "\n"


def run(found: list[Snippet], environment: dict) -> tuple[bool, str]:
    """Whether all went well, and what was printed."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script(found))
        file.flush()
        command = ["timeout", "--kill-after=10", str(LIMIT), "bash", file.name]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    said = done.stdout.decode(errors="replace")
    if done.returncode == TIMED_OUT:
        said += f"*** {found[0].document} took longer than {LIMIT} seconds\n"
    return done.returncode == 0, said


@contextlib.contextmanager
def environment(arguments: argparse.Namespace):
    """What the snippets find: a service, its key, its programs."""
    inherited = {**os.environ, "PYTHON": str(arguments.python or sys.executable)}
    if arguments.service is None:
        yield inherited
        return
    program = arguments.service.resolve()
    # Two runs at once: one loads and stores while the other one trains.
    with demo.running_service(program, arguments.model.resolve(), more=("--slots", "2")) as service:
        path = f"{program.parent}:{os.environ['PATH']}"
        own = {"OPENAI_BASE_URL": service.base_url, "OPENAI_API_KEY": service.key}
        yield {**inherited, **own, "FINETUNED_STATE_DIR": str(service.state), "PATH": path}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", type=pathlib.Path, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, help="directory of the base model")
    parser.add_argument("--python", type=pathlib.Path, help="a Python with the openai package; this one otherwise")
    parser.add_argument("--list", action="store_true", help="say which snippets there are, and run none")
    parser.add_argument("documents", nargs="*", type=pathlib.Path, help="README.md and docs/ otherwise")
    arguments = parser.parse_args()
    if arguments.service and not arguments.model:
        parser.error("--service needs --model")
    found = [snippets(path.resolve()) for path in arguments.documents or documents()]
    every = [snippet for document in found for snippet in document]
    if not arguments.documents:
        stale = set(NOT_RUN) - {(snippet.document, snippet.text.split("\n", 1)[0]) for snippet in every}
        if stale:
            sys.exit(f"NOT_RUN names blocks that there are not: {sorted(stale)}")
    if arguments.list:
        for snippet in every:
            print(f"{snippet.place}  {'run' if snippet.reason is None else f'not run: {snippet.reason}'}")
        return
    failed = 0
    with environment(arguments) as variables, concurrent.futures.ThreadPoolExecutor() as pool:
        for went_well, output in pool.map(lambda document: run(document, variables), filter(None, found)):
            print(output, flush=True)
            failed += not went_well
    left_out = sum(snippet.reason is not None for snippet in every)
    print(f"{len(every) - left_out} snippets run, {left_out} not run; {failed} documents failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
