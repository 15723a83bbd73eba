#!/usr/bin/env python3
"""LoRA of a Llama with random weights, row for row: the trainer by itself against Transformers and PEFT on the same device.

    benches/llamas.py --trainer target/release/finetuned-trainer --size 1b --rows 4 --length 4096 --peak-tflops 989
    benches/llamas.py --trainer target/release/finetuned-trainer --size tiny --rows 2 --length 128

Every batch is so many full rows of random tokens. The peer is timed as it comes (checkpointing of all layers) and without
checkpointing. Runs in a Python that has torch, transformers and peft; on a GPU where libtorch finds one. The trainer takes libtorch
from where it was built, or from the torch package of this Python with --libtorch-of-torch.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from safetensors.torch import save_file

import trainer

# Widths, layers, heads, heads of keys and values, words: the last three are Llama 3.2 1B, Llama 3.1 8B and SmolLM2 135M.
SIZES = {
    "tiny": dict(hidden_size=64, intermediate_size=160, layers=4, heads=4, key_values=2, words=512, tied=True),
    "135m": dict(hidden_size=576, intermediate_size=1536, layers=30, heads=9, key_values=3, words=49152, tied=True),
    "1b": dict(hidden_size=2048, intermediate_size=8192, layers=16, heads=32, key_values=8, words=128256, tied=True),
    "8b": dict(hidden_size=4096, intermediate_size=14336, layers=32, heads=32, key_values=8, words=128256, tied=False),
}
LORA_R = 16
# Steps that are not timed: memory is found, and kernels are chosen.
WARM_UP = 3


def config(size: dict, length: int) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": size["hidden_size"],
        "intermediate_size": size["intermediate_size"],
        "num_hidden_layers": size["layers"],
        "num_attention_heads": size["heads"],
        "num_key_value_heads": size["key_values"],
        "vocab_size": size["words"],
        "max_position_embeddings": max(length, 2048),
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": size["tied"],
        "bos_token_id": 256,
        "eos_token_id": 256,
        "torch_dtype": "bfloat16",
    }


def byte_letters() -> dict[int, str]:
    """The letters that byte-level tokenizers write bytes with (GPT-2's `bytes_to_unicode`)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    return letters | {byte: chr(256 + place) for place, byte in enumerate(b for b in range(256) if b not in letters)}


def tokenizer() -> dict:
    """Every byte is a token."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    end = {"id": 256, "content": "<|end|>", "special": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    vocabulary = {letter: byte for byte, letter in byte_letters().items()} | {"<|end|>": 256}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [end | flags],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }


def write_model(folder: pathlib.Path, size: dict, length: int, device: str) -> int:
    """A checkpoint in shards, a layer each; the number of its parameters."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config(size, length)))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "tokenizer_class": "PreTrainedTokenizerFast"}))
    wide, inner, head = size["hidden_size"], size["intermediate_size"], size["hidden_size"] // size["heads"]
    keys = size["key_values"] * head
    generator = torch.Generator(device=device).manual_seed(1)

    def matrix(*shape: int) -> torch.Tensor:
        values = torch.empty(shape, dtype=torch.bfloat16, device=device)
        return values.normal_(0, 0.02, generator=generator).cpu()

    def layer(number: int) -> dict[str, torch.Tensor]:
        names = {
            "self_attn.q_proj": (wide, wide), "self_attn.k_proj": (keys, wide), "self_attn.v_proj": (keys, wide),
            "self_attn.o_proj": (wide, wide), "mlp.gate_proj": (inner, wide), "mlp.up_proj": (inner, wide),
            "mlp.down_proj": (wide, inner),
        }  # fmt: skip
        at = f"model.layers.{number}"
        found = {f"{at}.{name}.weight": matrix(*shape) for name, shape in names.items()}
        norms = ("input_layernorm", "post_attention_layernorm")
        return found | {f"{at}.{norm}.weight": torch.ones(wide, dtype=torch.bfloat16) for norm in norms}

    index, count = {}, 0
    outer = {"model.embed_tokens.weight": matrix(size["words"], wide), "model.norm.weight": torch.ones(wide, dtype=torch.bfloat16)}
    outer |= {} if size["tied"] else {"lm_head.weight": matrix(size["words"], wide)}
    for number in range(size["layers"] + 1):
        tensors = layer(number) if number < size["layers"] else outer
        name = f"model-{number:03}.safetensors"
        save_file(tensors, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, name)
        count += sum(tensor.numel() for tensor in tensors.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return count


def write_rows(path: pathlib.Path, rows: int, length: int) -> None:
    """Texts of as many letters as make full rows: a letter is a token, and an end follows each text."""
    chosen = random.Random(1)
    with open(path, "w") as file:
        for _ in range(rows):
            file.write("".join(chosen.choices("abcdefghijklmnopqrstuvwxyz", k=length - 1)) + "\n")


def ours(arguments: argparse.Namespace, folder: pathlib.Path, device: str) -> dict:
    rows = folder / "rows.txt"
    lora = {"type": "lora", "r": LORA_R, "alpha": 2 * LORA_R, "dropout": 0.0, "target_modules": "all-linear"}
    lora |= {"quantization": "nf4"} if arguments.nf4 else {}
    hyperparameters = {
        "batch_size": arguments.rows, "max_sequence_length": arguments.length, "precision": arguments.precision, "adapter": lora,
        "packing": True, "gradient_checkpointing": arguments.checkpointed, "export": "adapter", "gguf_type": "f16",
    }  # fmt: skip
    spec = trainer.spec("causal_lm", trainer.data_file(rows, "text"), hyperparameters, [], arguments.threads)
    run = trainer.run(arguments.trainer, folder, spec, device, arguments.libtorch)
    return {"seconds": run.seconds[WARM_UP:], "peak": run.peak}


def theirs(arguments: argparse.Namespace, folder: pathlib.Path, device: str, checkpoints: bool) -> dict:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype, attn_implementation="sdpa").to(device)
    model = get_peft_model(model, LoraConfig(r=LORA_R, lora_alpha=2 * LORA_R, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.train()
    if checkpoints:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    text = (folder / "rows.txt").read_text().split()
    seconds = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for step in range(arguments.steps):
        batch = text[step * arguments.rows : (step + 1) * arguments.rows]
        ids = torch.tensor([[*row.encode(), 256] for row in batch], device=device)
        started = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[WARM_UP:], "peak": torch.cuda.max_memory_allocated() if device == "cuda" else None}


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trainer.add_options(parser, WARM_UP + 5)
    parser.add_argument("--size", choices=list(SIZES), default="tiny")
    parser.add_argument("--rows", type=int, default=2, help="of a batch")
    parser.add_argument("--length", type=int, default=128, help="tokens of a row")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16" if torch.cuda.is_available() else "fp32")
    parser.add_argument("--checkpointed", type=int, default=0, help="layers that the trainer computes again")
    parser.add_argument("--nf4", action="store_true", help="the trainer's frozen weights in four bits")
    parser.add_argument("--peak-tflops", type=float, help="of the device in this precision, for the share of it that is used")
    arguments, device = trainer.settled(parser, given, WARM_UP)
    size = SIZES[arguments.size]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        parameters = write_model(folder / "model", size, arguments.length, device)
        write_rows(folder / "rows.txt", arguments.steps * arguments.rows, arguments.length)
        name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        print(f"{arguments.size}: {parameters / 1e6:.0f} M parameters, {arguments.rows} x {arguments.length}, {arguments.precision}, {name}")
        found = {"finetuned": ours(arguments, folder, device)}
        if not arguments.without_peer:
            for what, checkpoints in (("all layers checkpointed", True), ("none", False)):
                try:
                    found[f"Transformers and PEFT, {what}"] = theirs(arguments, folder, device, checkpoints)
                except torch.cuda.OutOfMemoryError:
                    print(f"Transformers and PEFT, {what}: out of memory")
                torch.cuda.empty_cache()
    tokens = arguments.rows * arguments.length
    # Forward, and backward for the inputs: what is frozen has no gradient. The table of words is looked up, but where it is the
    # output layer, too. Attention sees half of a row on average.
    weights = parameters - (0 if size["tied"] else size["words"] * size["hidden_size"])
    attention = 2 * 2 * size["layers"] * size["hidden_size"] * arguments.length / 2 * 3
    flops = 4 * weights + attention
    base = statistics.median(found["finetuned"]["seconds"])
    print("\n| | tokens/s | finetuned is faster by | TFLOP/s | of the peak | memory |\n|---|---|---|---|---|---|")
    for what, run in found.items():
        seconds = statistics.median(run["seconds"])
        done = flops * tokens / seconds / 1e12
        share = f"{done / arguments.peak_tflops:.2f}" if arguments.peak_tflops else ""
        peak = f"{run['peak'] / 2**30:.1f} GiB" if run["peak"] else ""
        print(f"| {what} | {tokens / seconds:,.0f} | {seconds / base:.2f} | {done:.3g} | {share} | {peak} |")


if __name__ == "__main__":
    main()
