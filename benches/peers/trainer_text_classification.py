#!/usr/bin/env python3
"""The peer: Transformers' Trainer on the demo's model and data. Prints one line of JSON."""

import argparse
import csv
import json
import os
import pathlib
import resource
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

DATA = pathlib.Path(__file__).resolve().parents[2] / "examples/banking77"


class Examples(torch.utils.data.Dataset):
    """Tokenised rows of a data file."""

    def __init__(self, name: str, tokenizer, classes: dict[str, int] | None = None):
        with open(DATA / f"{name}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        labels = sorted({row["category"] for row in rows})
        self.classes = classes or {label: i for i, label in enumerate(labels)}
        self.tokens = tokenizer([row["text"] for row in rows], truncation=True)["input_ids"]
        self.labels = [self.classes[row["category"]] for row in rows]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict:
        tokens = self.tokens[i]
        return {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": self.labels[i]}


def has_fast_bf16() -> bool:
    """Without units for it, bf16 is many times slower than fp32."""
    return torch.cuda.is_available() or " avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--epochs", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--tuned", action="store_true", help="batches of similar lengths, and bf16 where it is fast")
    arguments = parser.parse_args()
    set_seed(42)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    training = Examples("training", tokenizer)
    test = Examples("test", tokenizer, training.classes)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.model, num_labels=len(training.classes))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=scratch,
                num_train_epochs=arguments.epochs,
                per_device_train_batch_size=arguments.batch_size,
                per_device_eval_batch_size=128,
                learning_rate=arguments.learning_rate,
                warmup_steps=0.06,  # below 1 it is a share of all steps
                weight_decay=0.01,
                use_cpu=not torch.cuda.is_available(),
                bf16=arguments.tuned and has_fast_bf16(),
                train_sampling_strategy="group_by_length" if arguments.tuned else "random",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=training,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        seconds = trainer.train().metrics["train_runtime"]
        predictions = trainer.predict(test)
    accuracy = (predictions.predictions.argmax(-1) == predictions.label_ids).mean()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "accuracy": float(accuracy), "peak_memory": memory}))


if __name__ == "__main__":
    main()
