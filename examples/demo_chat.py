#!/usr/bin/env python3
"""A language model learns to answer in one way, on real data, against a service that this script starts and stops.

Customers' questions of Banking77 (examples/banking77) become conversations in which the assistant answers with the
question's intent, one of 77, and nothing else. The model is asked the same questions before and after a LoRA tune.
Python's standard library is enough.
"""

import argparse
import csv
import json
import pathlib
import random
import tempfile

from demo import DATA, Api, download, follow, running_service

SYSTEM = "Name the intent."
HYPERPARAMETERS = {"n_epochs": 2, "batch_size": 16, "learning_rate": 2e-3, "max_sequence_length": 128}
# Of each intent, how many questions are learned, and how many are asked.
LEARNED = 12
ASKED = 1
SHOWN = 3


def by_intent(name: str) -> dict:
    """Intent to its questions, in the order of the file."""
    questions: dict = {}
    with open(DATA / f"{name}.csv", newline="") as source:
        for row in csv.DictReader(source):
            questions.setdefault(row["category"].replace("_", " "), []).append(row["text"])
    return questions


def some(name: str, count: int, generator: random.Random) -> list:
    """So many questions of each intent, each with its intent, in no order."""
    chosen = [
        (question, intent)
        for intent, questions in by_intent(name).items()
        for question in generator.sample(questions, min(count, len(questions)))
    ]
    generator.shuffle(chosen)
    return chosen


def messages(question: str) -> list:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def upload(api: Api, questions: list) -> str:
    """Uploads conversations in OpenAI's format and returns the file's id."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "chats.jsonl"
        with open(path, "w") as sink:
            for question, intent in questions:
                conversation = messages(question) + [{"role": "assistant", "content": intent}]
                sink.write(json.dumps({"messages": conversation}) + "\n")
        return api.upload(path)


def ask(api: Api, model: str, question: str) -> str:
    request = {"model": model, "messages": messages(question), "temperature": 0, "max_tokens": 16}
    answer = json.loads(api.call("POST", "/chat/completions", json.dumps(request)))
    return answer["choices"][0]["message"]["content"].strip()


def exact_match(api: Api, model: str, questions: list, what: str) -> float:
    """The share of answers that are the intent, to the letter."""
    answers = [(question, intent, ask(api, model, question)) for question, intent in questions]
    print(f"{what}:")
    for question, intent, answer in answers[:SHOWN]:
        print(f"  {question.strip()}\n    wanted: {intent}\n    answer: {' '.join(answer.split())}")
    return sum(intent == answer for _, intent, answer in answers) / len(answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True, help="the program finetuned")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="GGUF file or directory of the base model")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/demo-chat"), help="where the model goes")
    arguments = parser.parse_args()
    generator = random.Random(42)
    learned, asked = some("training", LEARNED, generator), some("test", ASKED, generator)
    base = arguments.model.parent.name if arguments.model.is_file() else arguments.model.name
    with running_service(arguments.service, arguments.model, name=base) as service:
        print(f"service at {service.base_url}")
        api = Api(service.base_url, service.key)
        before = exact_match(api, base, asked, "before")
        request = {
            "model": base,
            "training_file": upload(api, learned),
            "seed": 42,
            "suffix": "intents",
            "dataset": {"validation_split": 0},
            "method": {"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS}},
        }
        job = follow(api, json.loads(api.call("POST", "/fine_tuning/jobs", json.dumps(request))))
        after = exact_match(api, job["fine_tuned_model"], asked, "after")
        directory = download(api, job["fine_tuned_model"], arguments.out)
    print(f"exact match before: {before:.2f}  after: {after:.2f}  model: {directory}")


if __name__ == "__main__":
    main()
