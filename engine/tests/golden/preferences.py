#!/usr/bin/env python3
"""Make the golden values of preference losses with TRL's DPOTrainer.

    .deps/venv-trl/bin/python engine/tests/golden/preferences.py   # as `make golden` does

A tiny Llama that has moved away from what it was: for each loss its value, the rewards of both answers, and every
gradient, of one batch of pairs. The same versions give the same files.
"""

import make  # first: it keeps transformers offline

import copy
import tempfile

import torch
import transformers
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

import language_models

LOSSES = {"sigmoid": dict(loss_type=["sigmoid"], beta=0.3), "ipo": dict(loss_type=["ipo"], beta=0.2)}
PAIRS = [
    ("how do i get my", " new card", " exchange rate please"),
    ("where is", " my money back now", " the fee"),
    ("can you tell me", " about the exchange rate", " why"),
]


def moved(model, seed: int):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def main() -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    tokenizer = language_models.tokenizer()
    before = moved(language_models.build("llama", vocab_size=len(tokenizer), pad_token_id=0), 3)
    tensors = language_models.as_saved(before, "before.")
    data = Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), pair)) for pair in PAIRS])
    for name, settings in LOSSES.items():
        with tempfile.TemporaryDirectory() as folder:
            shape = dict(per_device_train_batch_size=len(PAIRS), use_cpu=True, report_to=[], bf16=False, max_length=64)
            config = DPOConfig(folder, gradient_checkpointing=False, seed=1, **shape, **settings)
            models = dict(model=copy.deepcopy(before), ref_model=copy.deepcopy(before))
            trainer = DPOTrainer(**models, args=config, train_dataset=data, processing_class=tokenizer)
            moved(trainer.model, 4)
            batch = next(iter(trainer.get_train_dataloader()))
            loss = trainer.compute_loss(trainer.model, batch)
            loss.backward()
            told = {key: torch.tensor(values[-1:]) for key, values in trainer._metrics["train"].items()}
        tensors |= {f"{name}.loss": loss.reshape(1)}
        for key in ("chosen", "rejected", "margins", "accuracies"):
            tensors[f"{name}.{key}"] = told[f"rewards/{key}"]
        saved = language_models.as_saved(trainer.model, "")
        parameters = dict(trainer.model.named_parameters())
        tensors |= {f"{name}.grad.{key}": parameters[key].grad for key in saved}
        tensors |= {f"after.{key}": value for key, value in saved.items()}
    # TRL's batch: prompts and answers, the preferred ones first.
    tensors |= {key: batch[key] for key in ("input_ids", "attention_mask", "completion_mask")}
    make.save("preferences", tensors)


if __name__ == "__main__":
    main()
