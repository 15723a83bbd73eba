"""Makes `quants.bin`, random blocks of every supported type with their values, and `q8_0.bin`, random values with their
blocks of `Q8_0`, both by the Python package `gguf`.

    pip install gguf numpy && python quants.py

`quants.bin` has per type: its number, how many bytes and values follow (32 bits each, little endian), those bytes, those
values (f32). `q8_0.bin` has all values (f32), then all blocks.
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
# Where the binary16 scales of a block are, in bytes.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}

random = np.random.default_rng(20260101)


def blocks(name: str) -> np.ndarray:
    """Random bytes, whose scales are finite: normal, subnormal and zero, of both signs."""
    values, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    if values == 1:
        finite = np.concatenate([random.standard_normal(60), [0.0, -0.0, 1e-7, 65504.0]]).astype(np.float32)
        if name == "F32":
            return finite.view(np.uint8)
        if name == "F16":
            return finite.astype(np.float16).view(np.uint8)
        return (finite.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    rows = random.integers(0, 256, (1024 // values if values == 32 else 6, size), dtype=np.uint8)
    for place in SCALES[name]:
        scales = (random.standard_normal(len(rows)) * 0.02).astype(np.float16)
        scales[0], scales[1] = np.float16(3e-7), np.float16(0.0)
        rows[:, place : place + 2] = scales.reshape(-1, 1).view(np.uint8)
    return rows.reshape(-1)


with (Path(__file__).parent / "quants.bin").open("wb") as file:
    for name in TYPES:
        kind = GGMLQuantizationType[name]
        packed = blocks(name)
        values = dequantize(packed.reshape(1, -1), kind).reshape(-1).astype(np.float32)
        file.write(np.array([int(kind), len(packed), len(values)], dtype="<u4").tobytes())
        file.write(packed.tobytes())
        file.write(values.astype("<f4").tobytes())

values = (random.standard_normal((32, 32)) * np.logspace(-6, 3, 32).reshape(-1, 1)).astype(np.float32)
# All zero, halves that are rounded away from zero, and a block of one value.
values[0], values[1], values[2] = 0, np.arange(-16, 16) + 0.5, 1
values[1, 0] = 127
with (Path(__file__).parent / "q8_0.bin").open("wb") as file:
    file.write(values.astype("<f4").tobytes())
    file.write(quantize(values, GGMLQuantizationType.Q8_0).tobytes())
