#!/usr/bin/env python3
"""Writes a small ResNet with random weights, in the layout of Hugging Face's models: something to train from nothing.

It has 0.3 million parameters and takes images of 32 by 32 pixels. The same seed makes the same file.
"""

import argparse
import json
import math
import pathlib
import random
import struct

CONFIG = {
    "architectures": ["ResNetModel"],
    "model_type": "resnet",
    "num_channels": 3,
    "embedding_size": 32,
    "hidden_sizes": [32, 64, 128],
    "depths": [1, 1, 1],
    "layer_type": "basic",
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
}

PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def layers() -> list:
    """Name, input channels, output channels and kernel of each convolution; a batch norm follows each."""
    width = CONFIG["embedding_size"]
    found = [("embedder.embedder", CONFIG["num_channels"], width, 7)]
    for stage, (output, depth) in enumerate(zip(CONFIG["hidden_sizes"], CONFIG["depths"])):
        for block in range(depth):
            path = f"encoder.stages.{stage}.layers.{block}"
            if width != output or (stage > 0 and block == 0):
                found.append((f"{path}.shortcut", width, output, 1))
            found += [(f"{path}.layer.0", width, output, 3), (f"{path}.layer.1", output, output, 3)]
            width = output
    return found


def tensors(seed: int) -> dict:
    """Name to type, shape and bytes. Weights are normal with variance 2 / fan-out (He et al. 2015)."""
    generator = random.Random(seed)
    found = {}

    def floats(name: str, shape: list, values: list) -> None:
        found[name] = ("F32", shape, struct.pack(f"<{len(values)}f", *values))

    for path, width, output, kernel in layers():
        deviation = math.sqrt(2 / (output * kernel**2))
        weight = [generator.gauss(0, deviation) for _ in range(output * width * kernel**2)]
        floats(f"{path}.convolution.weight", [output, width, kernel, kernel], weight)
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            floats(f"{path}.normalization.{name}", [output], [value] * output)
        found[f"{path}.normalization.num_batches_tracked"] = ("I64", [], struct.pack("<q", 0))
    return found


def write_safetensors(path: pathlib.Path, values: dict) -> None:
    """A safetensors file: the header's length, the header as JSON, then all tensors in its order."""
    header, end = {}, 0
    for name, (kind, shape, data) in values.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header).encode()
    # The tensors begin at a multiple of eight bytes.
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in values.values()))


def write_model(directory: pathlib.Path, seed: int = 0) -> None:
    """Writes configuration, image processor and weights into `directory`, which is made if it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, contents in (("config.json", CONFIG), ("preprocessor_config.json", PROCESSOR)):
        (directory / name).write_text(json.dumps(contents, indent=2) + "\n")
    write_safetensors(directory / "model.safetensors", tensors(seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=pathlib.Path, help="where the model goes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_model(arguments.directory, arguments.seed)


if __name__ == "__main__":
    main()
