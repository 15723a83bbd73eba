#!/usr/bin/env python3
"""Make the golden statistics of training examples with PyTorch.

    make golden

Logits of some epochs, and what they say of each example by the definitions: the mean loss; the area under the margin
(Pleiss et al. 2020, arXiv:2001.10528); forgetting events (Toneva et al. 2019, arXiv:1812.05159); the share of epochs in
which the prediction was right (Swayamdipta et al. 2020, arXiv:2009.10795); the last prediction.
"""

import pathlib

import torch
from safetensors.torch import save_file
from torch.nn import functional

HERE = pathlib.Path(__file__).resolve().parent
EPOCHS, EXAMPLES, LABELS = 6, 11, 5


def events(right: torch.Tensor) -> torch.Tensor:
    """Transitions from right to wrong of `right` [E, N]."""
    return (right[:-1] & ~right[1:]).sum(0)


def single(generator: torch.Generator) -> dict:
    logits = torch.randn(EPOCHS, EXAMPLES, LABELS, generator=generator)
    targets = torch.randint(0, LABELS, (EXAMPLES,), generator=generator)
    # So that some are learned, and some of these forgotten.
    logits += 1.5 * functional.one_hot(targets, LABELS)
    losses, margins = torch.zeros(EPOCHS, EXAMPLES), torch.zeros(EPOCHS, EXAMPLES)
    for epoch in range(EPOCHS):
        losses[epoch] = functional.cross_entropy(logits[epoch], targets, reduction="none")
        for example, target in enumerate(targets.tolist()):
            row = logits[epoch, example]
            others = torch.cat([row[:target], row[target + 1 :]])
            margins[epoch, example] = row[target] - others.max()
    right = logits.argmax(2) == targets
    found = {"prediction": logits[-1].argmax(1), "forgetting_events": events(right), "correctness": right.float().mean(0)}
    return found | {"logits": logits, "targets": targets, "mean_loss": losses.mean(0), "margin": margins.mean(0)}


def several(generator: torch.Generator) -> dict:
    logits = torch.randn(EPOCHS, EXAMPLES, LABELS, generator=generator)
    targets = (torch.rand(EXAMPLES, LABELS, generator=generator) < 0.4).float()
    logits += 1.3 * (2 * targets - 1)
    expanded = targets.expand_as(logits)
    losses = functional.binary_cross_entropy_with_logits(logits, expanded, reduction="none").mean(2)
    signed = torch.where(expanded > 0, logits, -logits)
    right = ((logits.sigmoid() > 0.5) == (expanded > 0)).all(2)
    found = {"prediction": signed[-1].argmin(1), "forgetting_events": events(right), "correctness": right.float().mean(0)}
    margins = signed.min(2).values
    return found | {"logits": logits, "targets": targets, "mean_loss": losses.mean(0), "margin": margins.mean(0)}


def values(generator: torch.Generator) -> dict:
    logits = torch.randn(EPOCHS, EXAMPLES, 1, generator=generator)
    targets = torch.randn(EXAMPLES, generator=generator)
    losses = functional.mse_loss(logits.squeeze(2), targets.expand(EPOCHS, EXAMPLES), reduction="none")
    return {"logits": logits, "targets": targets, "mean_loss": losses.mean(0), "prediction": logits[-1].squeeze(1)}


def main() -> None:
    tensors = {}
    for number, problem in enumerate((single, several, values)):
        found = problem(torch.Generator().manual_seed(20 + number))
        tensors |= {f"{problem.__name__}.{name}": value.to(torch.float32) for name, value in found.items()}
    path = HERE / "examples.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    path.chmod(0o644)


if __name__ == "__main__":
    main()
