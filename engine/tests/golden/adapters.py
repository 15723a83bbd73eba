#!/usr/bin/env python3
"""Make the golden values of adapters and of partial training, with PEFT and PyTorch's parameter groups.

    make golden

A tiny BERT classifier with PEFT's LoRA: logits, loss and gradients of one batch with adapters that are not zero, a
20-step curve, and what merging gives. The same model frozen in part and with layer-wise learning rates: its weights
after five steps. The same versions give the same files.
"""

import make  # first: it keeps transformers offline

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import get_scheduler

import text_families

# Targets, and whether the scaling is rank-stabilised.
ADAPTERS = {"plain": (["query", "value"], False), "rslora": (["query", "value", "dense"], True)}
# What each part's rate is multiplied by: layers of two, each 0.7 of the one above, the embeddings below both.
RATES = {"embeddings": 0.7**3, "layer.0.": 0.7**2, "layer.1.": 0.7, "pooler": 1.0, "classifier": 1.0}
FROZEN = ("embeddings", "layer.0.")
PREFIX = "base_model.model."


def base() -> torch.nn.Module:
    return text_families.build("bert", "SequenceClassification")


def batch(generator: torch.Generator, lengths: list[int]) -> dict:
    return make.batch(generator, text_families.VOCABULARY, lengths)


def described(prefix: str, inputs: dict) -> dict:
    tensors = {f"{prefix}{key}": inputs[key] for key in ("input_ids", "labels")}
    return tensors | {f"{prefix}lengths": inputs["attention_mask"].sum(1)}


def copies(prefix: str, tensors: dict) -> dict:
    return {f"{prefix}{name}": value.detach().clone() for name, value in tensors.items()}


def update(model, optimizer, scheduler, inputs: dict) -> tuple[float, float]:
    """One step as Transformers' Trainer takes it; loss and norm of the gradients."""
    loss = model(**inputs).loss
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0).item()
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    return loss.item(), norm


def batches() -> list[dict]:
    generator = torch.Generator().manual_seed(2)
    return [batch(generator, [1 + (7 * step + 5 * row) % 23 for row in range(8)]) for step in range(20)]


def adapters(name: str) -> dict:
    targets, rslora = ADAPTERS[name]
    config = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, lora_dropout=0.0, target_modules=targets, use_rslora=rslora)
    model = get_peft_model(base(), config)
    generator = torch.Generator().manual_seed(11)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for key in sorted(trained):
            # B starts at zero, and A's gradients would be zero with it.
            trained[key].copy_(torch.randn(trained[key].shape, generator=generator) * 0.1)
    tensors = copies("start.", get_peft_model_state_dict(model))
    inputs = batch(torch.Generator().manual_seed(1), text_families.LENGTHS)
    result = model(**inputs)
    result.loss.backward()
    short = lambda key: key.replace(".default", "").replace(".modules_to_save", "")
    tensors |= {f"grad.{short(key)}": value.grad.clone() for key, value in trained.items()}
    tensors |= described("", inputs) | {"logits": result.logits, "loss": result.loss.reshape(1)}
    model.zero_grad()
    decayed = [p for p in trained.values() if p.ndim > 1]
    others = [p for p in trained.values() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=3, num_training_steps=20)
    losses, norms = zip(*(update(model, optimizer, scheduler, inputs) for inputs in batches()))
    tensors |= {"losses": torch.tensor(losses), "norms": torch.tensor(norms)}
    tensors |= copies("final.", get_peft_model_state_dict(model))
    tensors |= copies("merged.", model.merge_and_unload().state_dict())
    return {f"{name}.{key}": value for key, value in tensors.items()}


def rates(name: str, frozen: tuple[str, ...]) -> dict:
    """Five steps with a group for each rate, and for what is decayed and what is not."""
    model = base()
    groups = []
    for part, rate in RATES.items():
        for decays in (True, False):
            params = [p for n, p in model.named_parameters() if part in n and (p.ndim > 1) == decays]
            for parameter in params:
                parameter.requires_grad_(part not in frozen)
            if part not in frozen:
                groups.append({"params": params, "lr": 2e-3 * rate, "weight_decay": 0.01 if decays else 0.0})
    optimizer = torch.optim.AdamW(groups)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=3, num_training_steps=20)
    for inputs in batches()[:5]:
        update(model, optimizer, scheduler, inputs)
    return copies(f"{name}.final.", model.state_dict())


def main() -> None:
    torch.set_num_threads(1)
    tensors = copies("weight.", base().state_dict())
    for step, inputs in enumerate(batches()):
        tensors |= described(f"step{step}.", inputs)
    for name in ADAPTERS:
        tensors |= adapters(name)
    tensors |= rates("decayed", ()) | rates("frozen", FROZEN)
    make.save("adapters", tensors)


if __name__ == "__main__":
    main()
