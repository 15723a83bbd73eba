#!/usr/bin/env python3
"""Make the golden values of the image classifiers with PyTorch and Transformers.

    make golden

For each tiny random model: its config and weights, logits when evaluated; logits, loss, every gradient and the norms'
new statistics of one training batch; and 20 steps of training. Images and labels are formulas, which the tests
compute too. The same versions give the same files.
"""

import json

import make  # sets the environment, before Transformers is imported
import torch
from safetensors.torch import save_file
from transformers import (
    ConvNextImageProcessorPil,
    DeiTConfig,
    DeiTForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ResNetModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
    get_scheduler,
)

BATCH, SIDE, STEPS = 8, 32, 20
BASIC = dict(layer_type="basic", embedding_size=16, hidden_sizes=[16, 24], depths=[1, 2])
BOTTLENECK = dict(layer_type="bottleneck", embedding_size=16, hidden_sizes=[16, 32], depths=[2, 1])
PAPER = dict(downsample_in_first_stage=True, downsample_in_bottleneck=True)
VIT = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=SIDE, patch_size=8)
MODELS = {
    "resnet_basic": (ResNetForImageClassification, ResNetConfig(**BASIC, num_labels=make.CLASSES)),
    "resnet_bottleneck": (ResNetForImageClassification, ResNetConfig(**BOTTLENECK, num_labels=make.CLASSES)),
    "resnet_paper": (ResNetForImageClassification, ResNetConfig(**BOTTLENECK | PAPER, num_labels=make.CLASSES)),
    "vit": (ViTForImageClassification, ViTConfig(**VIT, num_labels=make.CLASSES)),
    "deit": (DeiTForImageClassification, DeiTConfig(**VIT, qkv_bias=False, hidden_act="relu", num_labels=make.CLASSES)),
}
# save_pretrained's names for the modules of ViT and DeiT, in the order in which Transformers renames.
SAVED = (
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
    ("layers.", "encoder.layer."),
)


def images(step: int) -> torch.Tensor:
    """Noise between -1 and 1 that is the same in every language."""
    size = BATCH * 3 * SIDE * SIDE
    mixed = (torch.arange(step * size, (step + 1) * size) * 1103515245 + 12345) % 2**31
    return ((mixed * mixed >> 15) % 65536 / 32768.0 - 1).float().reshape(BATCH, 3, SIDE, SIDE)


def labels(step: int) -> torch.Tensor:
    return (7 * step + 3 * torch.arange(BATCH)) % make.CLASSES


def randomise(model: torch.nn.Module) -> None:
    """Weights at which every part of the model shows in its outputs, with signals of about 1 throughout."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = parameter.ndim == 1 and name.endswith("weight")
            is_convolution = parameter.ndim == 4
            scale = (2 / parameter[0].numel()) ** 0.5 if is_convolution else 0.1 if parameter.ndim == 1 else 0.3
            parameter.copy_(noise * scale + (1.0 if is_scale else 0.0))
        for name, buffer in sorted(model.named_buffers()):
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
            elif name.endswith("num_batches_tracked"):
                buffer.fill_(1000)


def saved(name: str, model: torch.nn.Module) -> str:
    """The name under which save_pretrained writes a module's tensor."""
    if not isinstance(model, ResNetForImageClassification):
        for module, file in SAVED:
            name = name.replace(module, file)
    return name


def save(name: str, tensors: dict) -> None:
    path = make.HERE / f"vision_{name}.safetensors"
    save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, path)
    path.chmod(0o644)


def state(prefix: str, model: torch.nn.Module) -> dict:
    return {f"{prefix}.{saved(name, model)}": value.clone() for name, value in model.state_dict().items()}


def fresh(name: str) -> tuple[torch.nn.Module, list]:
    """A model, and a list that takes how near to 0 the input of each ReLU comes."""
    architecture, config = MODELS[name]
    model = architecture(config)
    randomise(model)
    nearest = [1.0]
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_pre_hook(lambda _, inputs: nearest.append(inputs[0].abs().min().item()))
    return model, nearest


def clear(record, name: str, margin: float) -> None:
    """Saves what `record` gives, from the first batches in which no ReLU's input comes nearer to 0 than `margin`: any
    nearer, rounding decides what the gradient is, and two right implementations differ."""
    for step in range(0, 1000, STEPS):
        model, nearest = fresh(name)
        tensors = record(model, step)
        if min(nearest) > margin:
            return save(f"{name}{'_curve' if record is curve else ''}", tensors | {"step": torch.tensor(step)})
    raise AssertionError(name)


def one_step(model: torch.nn.Module, step: int) -> dict:
    """Logits in evaluation, then logits, loss, gradients and statistics of one training batch."""
    tensors = state("weight", model)
    with torch.no_grad():
        tensors["eval_logits"] = model.eval()(pixel_values=images(step)).logits
    result = model.train()(pixel_values=images(step), labels=labels(step))
    result.loss.backward()
    tensors |= {"logits": result.logits, "loss": result.loss.reshape(1)}
    tensors |= {f"grad.{saved(key, model)}": value.grad for key, value in model.named_parameters()}
    return tensors | {f"after.{key}": value for key, value in model.named_buffers()}


def curve(model: torch.nn.Module, first: int) -> dict:
    """As make.curve; what has two or more dimensions is decayed, norms of images are not."""
    model.train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=3, num_training_steps=STEPS)
    losses, norms = [], []
    for step in range(first, first + STEPS):
        loss = model(pixel_values=images(step), labels=labels(step)).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return state("final", model) | {"losses": torch.tensor(losses), "norms": torch.tensor(norms)}


def base_model(folder: str, model: torch.nn.Module, processor) -> None:
    """A base model as people import it."""
    randomise(model)
    path = make.HERE / folder
    model.save_pretrained(path)
    processor.save_pretrained(path)
    (path / "model.safetensors").chmod(0o644)


def check_names(model: torch.nn.Module, folder: str) -> None:
    """`saved` must say what save_pretrained does."""
    from safetensors import safe_open

    with safe_open(make.HERE / folder / "model.safetensors", "pt") as file:
        assert sorted(file.keys()) == sorted(saved(name, model) for name in model.state_dict()), folder


def main() -> None:
    torch.set_num_threads(1)
    configs = {}
    for name, (_, config) in MODELS.items():
        configs[name] = config.to_diff_dict() | {"model_type": config.model_type}
        clear(one_step, name, 1e-5)
        # With strides like the paper's, the stem's biases have no gradient but rounding, which AdamW makes large.
        if name != "resnet_paper":
            clear(curve, name, 4e-6)
    (make.HERE / "vision_configs.json").write_text(json.dumps(configs, indent=1, sort_keys=True) + "\n")
    resnet, vit = ResNetModel(ResNetConfig(**BASIC)), ViTModel(ViTConfig(**VIT))
    imagenet = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    base_model("tiny-resnet", resnet, ConvNextImageProcessorPil(size={"shortest_edge": SIDE}, **imagenet))
    base_model("tiny-vit", vit, ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}))
    check_names(vit, "tiny-vit")


if __name__ == "__main__":
    main()
