#!/usr/bin/env python3
"""Make the golden values of the image tests with Pillow, torchvision and Transformers.

    make golden

Every transform with fixed parameters on small images, as uint8 (height, width, 3); what image processors make of them,
as float32 (3, height, width).
"""

import json
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode, autoaugment, functional
from torchvision.transforms.v2 import CutMix, MixUp
from transformers.models.bit.image_processing_bit import BitImageProcessor
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.convnext.image_processing_convnext import ConvNextImageProcessor
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.deit.image_processing_deit import DeiTImageProcessor
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.models.vit.image_processing_vit import ViTImageProcessor

HERE = pathlib.Path(__file__).resolve().parent
TENSORS: dict[str, torch.Tensor] = {}


def picture(width: int, height: int, seed: int) -> Image.Image:
    """Colours that run, edges, noise, and little contrast in blue."""
    random = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[0:height, 0:width]
    red = 255 * x / width
    green = 255 * (y / height) * ((x // 5) % 2)
    blue = 90 + 40 * numpy.sin(x / 3 + y / 4)
    pixels = numpy.stack([red, green, blue], 2) + random.normal(0, 18, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8), "RGB")


def keep(name: str, image: Image.Image) -> None:
    TENSORS[name] = torch.from_numpy(numpy.array(image))


def resizing(image: Image.Image, tall: Image.Image) -> None:
    sizes = {"wide": [(24, 24), (13, 9), (60, 45), (37, 10), (11, 50), (1, 1)], "tall": [(20, 24), (13, 9), (30, 30), (18, 36)]}
    # Those that image processors have had to choose from; Pillow 13 has two more.
    for mode in [Image.Resampling(number) for number in range(6)]:
        for width, height in sizes["wide"]:
            keep(f"resize.{mode.value}.wide.{width}.{height}", image.resize((width, height), mode))
        for width, height in sizes["tall"]:
            keep(f"resize.{mode.value}.tall.{width}.{height}", tall.resize((width, height), mode))
    crop = functional.resized_crop(image, 3, 5, 17, 21, [24, 24], InterpolationMode.BILINEAR, antialias=True)
    keep("resized_crop", crop)


def operations(image: Image.Image) -> None:
    for op in ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"]:
        for magnitude in {"ShearX": [0.09, -0.27], "ShearY": [0.21, -0.3]}.get(op, [7.8, -11.3]):
            keep(f"op.{op}.{magnitude}", applied(image, op, magnitude))
    for op in ["Brightness", "Color", "Contrast", "Sharpness"]:
        for magnitude in [0.27, -0.63, 0.9, -0.9]:
            keep(f"op.{op}.{magnitude}", applied(image, op, magnitude))
    for op, magnitudes in [("Posterize", [4, 7]), ("Solarize", [178.5, 63.75]), ("AutoContrast", [0]), ("Equalize", [0])]:
        for magnitude in magnitudes:
            keep(f"op.{op}.{magnitude}", applied(image, op, magnitude))
    for factor in [0.1, -0.25, 0.5]:
        keep(f"op.Hue.{factor}", functional.adjust_hue(image, factor))


def applied(image: Image.Image, op: str, magnitude: float) -> Image.Image:
    return autoaugment._apply_op(image, op, magnitude, InterpolationMode.NEAREST, None)


def magnitudes() -> dict:
    """RandAugment's table for an image of 224 by 192 pixels."""
    space = autoaugment.RandAugment()._augmentation_space(31, (192, 224))
    return {name: [values.reshape(-1)[i % values.numel()].item() for i in range(31)] for name, (values, _) in space.items()}


def mixing() -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(3, 3, 6, 8, generator=generator)
    labels = torch.tensor([2, 0, 1])
    TENSORS["mix.images"] = images
    mixup, cutmix = MixUp(num_classes=4), CutMix(num_classes=4)
    mixup.make_params = lambda flat: {"lam": 0.3}
    cutmix.make_params = lambda flat: {"box": (2, 1, 7, 4), "lam_adjusted": 1 - 15 / 48}
    for name, mix in [("mixup", mixup), ("cutmix", cutmix)]:
        TENSORS[f"mix.{name}.images"], TENSORS[f"mix.{name}.targets"] = mix(images, labels)


def processors() -> dict:
    imagenet = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    made = {
        "vit": (ViTImageProcessorPil, ViTImageProcessor, dict(size={"height": 24, "width": 20})),
        "resnet": (ConvNextImageProcessorPil, ConvNextImageProcessor, dict(size={"shortest_edge": 21}, crop_pct=0.875, **imagenet)),
        "deit": (DeiTImageProcessorPil, DeiTImageProcessor, dict(size={"height": 32, "width": 32}, crop_size={"height": 25, "width": 21}, **imagenet)),
        "bit": (BitImageProcessorPil, BitImageProcessor, dict(size={"shortest_edge": 27}, crop_size={"height": 25, "width": 21})),
        "padded": (DeiTImageProcessor, DeiTImageProcessor, dict(size={"height": 20, "width": 20}, crop_size={"height": 25, "width": 23})),
    }
    configs = {}
    # Files as older versions wrote them, which Transformers reads today: without a class, and with numbers for sizes.
    older = {
        "older_vit": (ViTImageProcessorPil, dict(do_normalize=True, do_resize=True, resample=2, size=20, **imagenet)),
        "older_resnet": (ConvNextImageProcessorPil, dict(feature_extractor_type="ConvNextFeatureExtractor", crop_pct=0.9, resample=3, size=21)),
        "older_bit": (BitImageProcessorPil, dict(feature_extractor_type="BitFeatureExtractor", crop_size=19, resample=1, size=23)),
    }
    for name, (pil, settings) in older.items():
        configs[name] = settings
        for size, image in [("wide", picture(37, 29, 1)), ("tall", picture(26, 41, 2))]:
            values = numpy.array(pil.from_dict(dict(settings))(image)["pixel_values"][0])
            TENSORS[f"processor.{name}.{size}"] = torch.as_tensor(values).to(torch.float32)
    for name, (pil, fast, settings) in made.items():
        with tempfile.TemporaryDirectory() as folder:
            fast(**settings).save_pretrained(folder)
            configs[name] = json.loads((pathlib.Path(folder) / "preprocessor_config.json").read_text())
        for size, image in [("wide", picture(37, 29, 1)), ("tall", picture(26, 41, 2))]:
            made_by = [cls(**settings) for cls in (pil, fast)]
            if name == "padded":
                # The two backends put the border's larger half on other sides; torchvision's is the default one. What
                # is padded is resized by Pillow.
                image = image.resize((20, 20), Image.Resampling.BICUBIC)
                made_by = [fast(**settings, do_resize=False)] * 2
            values = [torch.as_tensor(numpy.array(processor(image)["pixel_values"][0])) for processor in made_by]
            TENSORS[f"processor.{name}.{size}"] = values[0].to(torch.float32)
            print(f"{name} {size}: backends differ by {(values[0] - values[1]).abs().max().item():.4f}")
    return configs


def main() -> None:
    wide, tall = picture(37, 29, 1), picture(26, 41, 2)
    keep("wide", wide)
    keep("tall", tall)
    resizing(wide, tall)
    operations(wide)
    mixing()
    table = {"magnitudes": magnitudes(), "processors": processors()}
    path = HERE / "images.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in TENSORS.items()}, path)
    path.chmod(0o644)
    (HERE / "images.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
