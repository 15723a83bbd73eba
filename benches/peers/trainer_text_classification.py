#!/usr/bin/env python3
"""The peer: Transformers' Trainer, with PEFT for LoRA, on the demo's model and data. Prints one line of JSON."""

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

    def __init__(self, path: pathlib.Path, tokenizer, classes: dict[str, int] | None = None):
        with open(path, newline="") as file:
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


def trained(model, arguments: argparse.Namespace):
    """The model with what is to be trained of it: all, the classifier on a frozen backbone, or adapters."""
    if arguments.train == "head":
        model.base_model.requires_grad_(False)
        # The service computes a frozen backbone's features once, which is without dropout.
        for module in model.base_model.modules() if not arguments.backbone_dropout else ():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    if arguments.train == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(task_type="SEQ_CLS", r=arguments.lora_r, lora_alpha=arguments.lora_alpha)
        return get_peft_model(model, config)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--epochs", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--tuned", action="store_true", help="batches of similar lengths, and bf16 where it is fast")
    parser.add_argument("--bf16", action="store_true", help="bf16 where it is fast, and nothing else of --tuned")
    parser.add_argument("--training", type=pathlib.Path, default=DATA / "training.csv")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--train", choices=["full", "head", "lora"], default="full")
    parser.add_argument("--backbone-dropout", action="store_true", help="keep it where the backbone is frozen")
    parser.add_argument("--lora-r", type=int, default=8)
    parser.add_argument("--lora-alpha", type=int, default=16)
    arguments = parser.parse_args()
    set_seed(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    training = Examples(arguments.training, tokenizer)
    test = Examples(DATA / "test.csv", tokenizer, training.classes)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.model, num_labels=len(training.classes))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=trained(model, arguments),
            args=TrainingArguments(
                output_dir=scratch,
                seed=arguments.seed,
                num_train_epochs=arguments.epochs,
                per_device_train_batch_size=arguments.batch_size,
                per_device_eval_batch_size=128,
                learning_rate=arguments.learning_rate,
                warmup_steps=0.06,  # below 1 it is a share of all steps
                weight_decay=0.01,
                use_cpu=not torch.cuda.is_available(),
                bf16=(arguments.tuned or arguments.bf16) and has_fast_bf16(),
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
