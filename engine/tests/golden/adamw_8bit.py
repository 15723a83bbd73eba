#!/usr/bin/env python3
"""Make the golden values of AdamW with moments in eight bits with torchao, whose quantisation is that of bitsandbytes.

    .deps/venv-trl/bin/python engine/tests/golden/adamw_8bit.py   # as `make golden` does

Of a matrix with decay and one without: values, gradients and values after each of five steps, and the codes and scales of the
moments at the end. The same versions give the same files.
"""

import os
import pathlib

os.environ["TORCH_COMPILE_DISABLE"] = "1"

import torch
from safetensors.torch import save_file
from torchao.optim import AdamW8bit

STEPS = 5
# torchao keeps what has fewer than 4,096 values, or broken blocks, in float32.
SHAPES = {"decayed": (64, 64), "plain": (32, 128)}


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(8)
    values = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    parameters = {name: torch.nn.Parameter(value.clone()) for name, value in values.items()}
    groups = [{"params": [parameters["decayed"]], "weight_decay": 0.1}, {"params": [parameters["plain"]], "weight_decay": 0.0}]
    optimizer = AdamW8bit(groups, lr=0.03, betas=(0.9, 0.999), eps=1e-8, block_size=256)
    found = {f"start.{name}": value for name, value in values.items()}
    for step in range(STEPS):
        for name, parameter in parameters.items():
            # Rows of very different sizes, though none whose squares torchao rounds up to 1e-12, and a block without gradient at first.
            gradient = torch.randn(parameter.shape, generator=generator) * torch.logspace(-3, 0, len(parameter)).unsqueeze(1)
            if step < 3:
                gradient.view(-1)[256:512] = 0.0
            parameter.grad = gradient
            found[f"grad{step}.{name}"] = gradient
        optimizer.step()
        for name, parameter in parameters.items():
            found[f"after{step}.{name}"] = parameter.detach().clone()
    for name, parameter in parameters.items():
        for kind in ("exp_avg", "exp_avg_sq"):
            moment = optimizer.state[parameter][kind]
            found[f"{kind}.{name}.codes"] = moment.codes.flatten()
            found[f"{kind}.{name}.scales"] = moment.scale.flatten()
            found[f"{kind}.{name}.map"] = moment.qmap.flatten()
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, pathlib.Path(__file__).with_suffix(".safetensors"))


main()
