#!/usr/bin/env python3
"""Fine-tune a text classifier through the official OpenAI SDK.

    export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
    python examples/openai_sdk.py --model all-MiniLM-L6-v2

Nothing in the SDK is changed: what OpenAI's API does not have goes in `extra_body` and comes back as it is.
"""

import argparse
import csv
import io
import pathlib
import time

import openai

DATA = pathlib.Path(__file__).resolve().parent / "banking77"


def rows(name: str, limit: int | None) -> bytes:
    """A data file, or as many of its rows as asked for, spread over its labels."""
    text = (DATA / f"{name}.csv").read_text()
    if limit is None:
        return text.encode()
    table = list(csv.DictReader(io.StringIO(text)))
    labels = sorted({row["category"] for row in table})[:5]
    some = [row for row in table if row["category"] in labels][:: max(1, 5 * 120 // limit)][:limit]
    out = io.StringIO()
    writer = csv.DictWriter(out, ["text", "category"])
    writer.writeheader()
    writer.writerows(some)
    return out.getvalue().encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="the base model's name")
    parser.add_argument("--limit", type=int, help="use only so many training rows")
    arguments = parser.parse_args()
    client = openai.OpenAI()

    # Files.
    training = client.files.create(file=("training.csv", rows("training", arguments.limit)), purpose="fine-tune")
    training = client.files.wait_for_processing(training.id)
    print(f"uploaded {training.filename}: {training.bytes} bytes, {training.status}")
    print(f"labels: {len(training.validation['text_classification']['labels'])}")
    assert client.files.retrieve(training.id).id == training.id
    assert training.id in [file.id for file in client.files.list(purpose="fine-tune")]

    # A job. An error names the field.
    try:
        client.fine_tuning.jobs.create(model=arguments.model, training_file=training.id, hyperparameters={"n_epochs": 0})
    except openai.BadRequestError as error:
        print(f"refused: {error.param}: {error.body['message']}")
    method = {"type": "text_classification", "text_classification": {"hyperparameters": {"n_epochs": 3, "batch_size": 8}}}
    job = client.fine_tuning.jobs.create(
        model=arguments.model,
        training_file=training.id,
        suffix="sdk",
        seed=42,
        metadata={"example": "openai_sdk"},
        extra_body={"method": method, "dataset": {"validation_split": 0.2}},
    )
    print(f"created {job.id}: {job.status}")
    seen: set[str] = set()
    while job.status in ("validating_files", "queued", "running"):
        time.sleep(0.5)
        for event in reversed(list(client.fine_tuning.jobs.list_events(job.id, limit=50))):
            if event.id not in seen:
                seen.add(event.id)
                print(f"  {event.level:5} {event.message}")
        job = client.fine_tuning.jobs.retrieve(job.id)
    print(f"status: {job.status}")
    if job.status != "succeeded":
        raise SystemExit(job.error)
    mine = client.fine_tuning.jobs.list(metadata={"example": "openai_sdk"}, limit=1)
    assert job.id in [found.id for found in mine], "pages go on by themselves"
    print(f"evaluation: {job.evaluation}")

    # What it leaves: checkpoints, metrics, a model.
    for checkpoint in client.fine_tuning.jobs.checkpoints.list(job.id):
        print(f"checkpoint at step {checkpoint.step_number}: loss {checkpoint.metrics.full_valid_loss:.3f}")
    results = client.files.content(job.result_files[0]).text
    print(f"columns: {results.splitlines()[0]}")
    model = client.models.retrieve(job.fine_tuned_model)
    print(f"model: {model.id}, owned by {model.owned_by}")
    assert model.id in [found.id for found in client.models.list()]

    # Not OpenAI's: any model on any file.
    evaluation = client.post("/evaluations", cast_to=object, body={"model": model.id, "test_file": training.id})
    while evaluation["status"] in ("validating_files", "queued", "running"):
        time.sleep(0.2)
        evaluation = client.get(f"/evaluations/{evaluation['id']}", cast_to=object)
    print(f"on the training file: {evaluation['scores']}")

    # A job that has ended cannot be cancelled; one that waits can.
    try:
        client.fine_tuning.jobs.cancel(job.id)
    except openai.BadRequestError as error:
        print(f"refused: {error.body['message']}")
    second = client.fine_tuning.jobs.create(model=job.fine_tuned_model, training_file=training.id)
    print(f"{second.id}: {client.fine_tuning.jobs.cancel(second.id).status}")
    for deleted in (client.models.delete(job.fine_tuned_model), client.files.delete(training.id)):
        print(f"deleted {deleted.id}: {deleted.deleted}")
    try:
        client.files.retrieve(training.id)
    except openai.NotFoundError as error:
        print(f"gone: {error.body['message']}")


if __name__ == "__main__":
    main()
