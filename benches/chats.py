"""Data for benches/language_models.py: rows of `prompt` and `completion`, or of `prompt`, `chosen` and `rejected`, all lists
of messages, made from Banking77 or from files in OpenAI's formats. Both sides of a comparison read the same file of them.
"""

import csv
import json
import pathlib
import random

DATA = pathlib.Path(__file__).resolve().parents[1] / "examples/banking77"
# Intents that a question is asked with, one of them right.
CANDIDATES = 4


def questions(name: str, count: int, seed: int) -> list[tuple[list[dict], str, str]]:
    """Prompts that ask for the intent of a query of the file `name`, the right answer, and a wrong one of those offered."""
    with open(DATA / f"{name}.csv", newline="") as file:
        rows = [(row["text"].strip(), row["category"].replace("_", " ")) for row in csv.DictReader(file)]
    intents, draw = sorted({intent for _, intent in rows}), random.Random(seed)
    if count > len(rows):
        raise SystemExit(f"{name}.csv has {len(rows)} queries, and {count} are asked for")
    found = []
    for text, right in draw.sample(rows, count):
        wrong = draw.sample([intent for intent in intents if intent != right], CANDIDATES - 1)
        offered = sorted([right, *wrong])
        system = {"role": "system", "content": f"Which of these intents? {', '.join(offered)}"}
        found.append(([system, {"role": "user", "content": text}], right, wrong[0]))
    return found


def said(content: str) -> list[dict]:
    return [{"role": "assistant", "content": content}]


def example(row: dict, where: str) -> dict:
    """A chat in OpenAI's format, of which the last answer is learned."""
    *prompt, last = row["messages"]
    plain = all(isinstance(message.get("content"), str) for message in row["messages"])
    if last["role"] != "assistant" or not plain or row.get("tools"):
        raise SystemExit(f"{where}: chats of texts that end with the assistant are compared, without tools")
    return {"prompt": [bare(message) for message in prompt], "completion": said(last["content"])}


def preference(row: dict, where: str) -> dict:
    """A preference in OpenAI's format."""
    answers = [row["preferred_output"], row["non_preferred_output"]]
    if any(len(answer) != 1 or not isinstance(answer[0].get("content"), str) for answer in answers):
        raise SystemExit(f"{where}: answers of one text each are compared")
    chosen, rejected = (said(answer[0]["content"]) for answer in answers)
    return {"prompt": [bare(message) for message in row["input"]["messages"]], "chosen": chosen, "rejected": rejected}


def bare(message: dict) -> dict:
    return {"role": message["role"], "content": message["content"]}


def read(path: pathlib.Path, form, count: int, seed: int) -> list[dict]:
    """So many rows of a file, in an order of their own for each seed."""
    with open(path) as file:
        rows = [form(json.loads(line), f"{path}, line {number}") for number, line in enumerate(file, 1) if line.strip()]
    if count > len(rows):
        raise SystemExit(f"{path} has {len(rows)} rows, and {count} are asked for")
    return random.Random(seed).sample(rows, count)


def chats(path: pathlib.Path | None, training: int, validation: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Rows to train on and to validate with."""
    if path:
        rows = read(path, example, training + validation, seed)
        return rows[validation:], rows[:validation]
    row = lambda prompt, right, _: {"prompt": prompt, "completion": said(right)}
    parts = (("training", training), ("validation", validation))
    made = [[row(*question) for question in questions(name, count, seed)] for name, count in parts]
    return made[0], made[1]


def preferences(path: pathlib.Path | None, training: int, validation: int, seed: int) -> tuple[list[dict], list[dict]]:
    if path:
        rows = read(path, preference, training + validation, seed)
        return rows[validation:], rows[:validation]
    row = lambda prompt, right, wrong: {"prompt": prompt, "chosen": said(right), "rejected": said(wrong)}
    parts = (("training", training), ("validation", validation))
    made = [[row(*question) for question in questions(name, count, seed)] for name, count in parts]
    return made[0], made[1]


def write(path: pathlib.Path, rows: list[dict]) -> pathlib.Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path
