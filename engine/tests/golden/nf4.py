#!/usr/bin/env python3
"""Make the golden values of 4-bit weights with bitsandbytes, and of a QLoRA layer with PEFT's formula upon them.

    .deps/venv-trl/bin/python engine/tests/golden/nf4.py   # as `make golden` does

Of matrices of several sizes: the values, what bitsandbytes stores of them (packed values, codes of scales, scales of those, and
their offset), and what it reads again. The same versions give the same files.
"""

import pathlib

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import save_file

# With whole and broken blocks of 64 values, few and several groups of 256 scales.
SHAPES = {"small": (8, 24), "even": (48, 64), "wide": (130, 161), "tall": (700, 64)}


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(4)
    found = {}
    for name, shape in SHAPES.items():
        values = torch.randn(shape, generator=generator) * 0.05
        # Rows of other sizes, an outlier, and a block of zeros.
        values *= torch.logspace(-2, 0, shape[0]).unsqueeze(1)
        values.view(-1)[70] = 3.0
        values.view(-1)[:64] = 0.0
        packed, state = bnb.quantize_4bit(values, quant_type="nf4", blocksize=64, compress_statistics=True)
        found[f"{name}.values"] = values
        found[f"{name}.packed"] = packed.flatten()
        found[f"{name}.codes"] = state.absmax
        found[f"{name}.scales"] = state.state2.absmax
        found[f"{name}.offset"] = state.offset.reshape(1)
        found[f"{name}.read"] = bnb.dequantize_4bit(packed, state)
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, pathlib.Path(__file__).with_suffix(".safetensors"))


main()
