#!/usr/bin/env python3
"""The peer: TRL's SFTTrainer and DPOTrainer, with PEFT for LoRA, on rows of benches/chats.py. Prints one line of JSON.

Prompts are written by the chat template first, and given as texts: TRL then ends a completion with the token that ends the
assistant's turn and learns what the service learns. Of conversations it learns the line break of the template as well.
"""

import argparse
import json
import os
import pathlib
import resource
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"
STARTED = time.monotonic()

import torch
import transformers
from datasets import Dataset
from peft import LoraConfig
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer


class Clock(transformers.TrainerCallback):
    """When each step ended, how many tokens had been seen by then, and what was measured of it."""

    def __init__(self):
        self.times, self.tokens, self.losses, self.preferred = [], [], [], []

    def on_step_end(self, *_, **__):
        self.times.append(time.monotonic())

    def on_log(self, _, __, ___, logs: dict, **____):
        if "loss" in logs:
            self.tokens.append(logs["num_tokens"])
            self.losses.append(logs["loss"])
            if "rewards/margins" in logs:
                self.preferred.append([logs["loss"], logs["rewards/margins"], logs["rewards/accuracies"]])


def rows(path: pathlib.Path, tokenizer) -> Dataset:
    with open(path) as file:
        read = [json.loads(line) for line in file]

    def text(key: str, messages: list[dict]) -> str:
        if key == "prompt":
            return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return messages[0]["content"]

    return Dataset.from_list([{key: text(key, messages) for key, messages in row.items()} for row in read])


@torch.no_grad()
def loss_of(trainer: SFTTrainer, batch_size: int) -> float:
    """The mean over all learned tokens of the validation data, as the service has it."""
    trainer.model.eval()
    total, count, data = 0.0, 0, trainer.eval_dataset
    for start in range(0, len(data), batch_size):
        batch = trainer.data_collator([data[index] for index in range(start, min(start + batch_size, len(data)))])
        labels = batch["labels"][:, 1:]
        with trainer.compute_loss_context_manager():
            logits = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        learned = labels != -100
        total += cross_entropy(logits[learned].float(), labels[learned], reduction="sum").item()
        count += int(learned.sum())
    trainer.model.train()
    return total / count


def preferred(trainer: DPOTrainer) -> dict:
    found = trainer.evaluate()
    names = {"accuracy": "rewards/accuracies", "reward_margin": "rewards/margins", "loss": "loss"}
    return {name: found[f"eval_{theirs}"] for name, theirs in names.items()}


def settings(arguments: argparse.Namespace, folder: str) -> dict:
    return dict(
        output_dir=folder,
        seed=arguments.seed,
        data_seed=arguments.seed,
        num_train_epochs=1,
        per_device_train_batch_size=arguments.batch_size,
        per_device_eval_batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        warmup_steps=0.06,  # below 1 it is a share of all steps
        weight_decay=0.01,
        max_length=arguments.max_length,
        gradient_checkpointing=arguments.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        bf16=arguments.bf16,
        save_strategy="no",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=["supervised", "dpo"], required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--training", type=pathlib.Path, required=True)
    parser.add_argument("--validation", type=pathlib.Path)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--max-length", type=int, required=True)
    parser.add_argument("--lora-r", type=int, default=0, help="0 trains the whole model")
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="TRL's default")
    arguments = parser.parse_args()
    transformers.set_seed(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    # What is trained is held in float32, as the service holds it; a frozen base as it computes.
    dtype = torch.bfloat16 if arguments.bf16 and arguments.lora_r else torch.float32
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype)
    lora = None
    if arguments.lora_r:
        shape = dict(r=arguments.lora_r, lora_alpha=2 * arguments.lora_r, lora_dropout=0.0)
        lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **shape)
    data = dict(train_dataset=rows(arguments.training, tokenizer))
    if arguments.validation:
        data["eval_dataset"] = rows(arguments.validation, tokenizer)
    clock, found = Clock(), {}
    with tempfile.TemporaryDirectory() as folder:
        usual = settings(arguments, folder)
        more = dict(processing_class=tokenizer, peft_config=lora, callbacks=[clock], **data)
        if arguments.method == "dpo":
            trainer = DPOTrainer(model, args=DPOConfig(beta=arguments.beta, **usual), **more)
            evaluate = lambda: preferred(trainer)
        else:
            trainer = SFTTrainer(model, args=SFTConfig(packing=arguments.packing, **usual), **more)
            evaluate = lambda: {"loss": loss_of(trainer, arguments.batch_size)}
            if arguments.validation:
                found["before"] = evaluate()
        trainer.train()
        if arguments.validation:
            found["after"] = evaluate()
        trainer.save_model(folder)
    found |= {"losses": clock.losses, "tokens": clock.tokens, "times": clock.times, "preferred": clock.preferred}
    found["seconds"] = time.monotonic() - STARTED
    found["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
