#!/usr/bin/env python3
"""What a GPU makes of training, in a few minutes: the trainer by itself against Transformers and PEFT, in the same minutes.

    benches/gpu.py --trainer target/release/finetuned-trainer
    benches/gpu.py --trainer target/release/finetuned-trainer --size tiny --sections text,images

Models have random weights, data are random: what a step costs depends on neither. Sections: text (classification of texts of
equal and of unequal length), images (from JPEG files, which the peer is given as pixels already), llamas (LoRA, see llamas.py).
The peer goes as it comes (float32) and tuned (bfloat16 under autocast, AdamW in one kernel). --profile adds where the host's time goes.
Writes Markdown to standard output. Runs in a Python that has torch, transformers and peft; on a machine without a GPU on the CPU,
where --size tiny shows that all of it works.
"""

import argparse
import dataclasses
import io
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

import llamas
import trainer

# Steps that are not timed: memory is found, and kernels are chosen.
WARM_UP = 5
WORDS = 2000
CLASSES = ["a", "b", "c", "d"]


@dataclasses.dataclass
class Text:
    """Classification of texts of `shortest` to `length` tokens."""

    name: str
    rows: int
    length: int
    width: int
    layers: int
    shortest: int = 0


@dataclasses.dataclass
class Image:
    name: str
    rows: int
    side: int
    config: dict


RESNET_50 = dict(embedding_size=64, hidden_sizes=[256, 512, 1024, 2048], depths=[3, 4, 6, 3], layer_type="bottleneck")
RESNET_TINY = dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
VIT_BASE = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)
VIT_TINY = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, patch_size=8)
CASES = {
    "full": {
        "text": [
            Text("MiniLM, batch 32, 6 to 40 tokens", 32, 40, 384, 6, 6),
            Text("MiniLM, 32 x 128", 32, 128, 384, 6),
            Text("MiniLM, 256 x 128", 256, 128, 384, 6),
            Text("BERT-base, 32 x 128", 32, 128, 768, 12),
            Text("BERT-base, 32 x 512", 32, 512, 768, 12),
        ],
        "images": [Image("ResNet-50, 64 at 224 px", 64, 224, RESNET_50), Image("ViT-base, 64 at 224 px", 64, 224, VIT_BASE)],
        "llamas": [("135m", 8, 2048), ("1b", 4, 4096), ("8b", 2, 4096)],
    },
    "tiny": {
        "text": [Text("BERT, 4 x 16", 4, 16, 32, 2), Text("BERT, batch 4, 4 to 16 tokens", 4, 16, 32, 2, 4)],
        "images": [Image("ResNet, 4 at 32 px", 4, 32, RESNET_TINY), Image("ViT, 4 at 32 px", 4, 32, VIT_TINY)],
        "llamas": [("tiny", 2, 64)],
    },
}


class Busy:
    """How busy the GPU is meanwhile, as nvidia-smi has it; None where there is none."""

    def __enter__(self):
        self.seen, self.over = [], threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while shutil.which(query[0]) and not self.over.wait(0.2):
            self.seen.append(float(subprocess.run(query, capture_output=True, text=True).stdout.split()[0]))

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def percent(self) -> float | None:
        # The trainer's start is no part of it.
        return statistics.median(self.seen[len(self.seen) // 2 :]) if len(self.seen) > 3 else None


def tokenizer() -> dict:
    """Every word is a token."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {f"w{number}": number + 2 for number in range(WORDS)}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }  # fmt: skip


def texts(case: Text, count: int) -> list[list[int]]:
    chosen = random.Random(1)
    length = lambda: chosen.randint(case.shortest or case.length, case.length)
    return [[chosen.randrange(2, WORDS + 2) for _ in range(length())] for _ in range(count)]


def text(case: Text, arguments: argparse.Namespace, folder: pathlib.Path) -> tuple[dict, object]:
    """The spec of a case, and what makes a loss of step number so and so on the peer's side."""
    from transformers import BertConfig, BertForSequenceClassification

    heads = max(1, case.width // (32 if case.width < 768 else 64))
    config = BertConfig(
        vocab_size=30522, hidden_size=case.width, num_hidden_layers=case.layers, num_attention_heads=heads,
        intermediate_size=4 * case.width, max_position_embeddings=512, num_labels=len(CLASSES),
    )  # fmt: skip
    torch.manual_seed(1)
    model = BertForSequenceClassification(config)
    model.bert.save_pretrained(folder / "model")
    (folder / "model" / "tokenizer.json").write_text(json.dumps(tokenizer()))
    rows = texts(case, case.rows * arguments.steps)
    lines = [f"{' '.join(f'w{word - 2}' for word in row)},{CLASSES[at % len(CLASSES)]}" for at, row in enumerate(rows)]
    (folder / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    hyperparameters = {
        "batch_size": case.rows, "max_sequence_length": case.length, "precision": arguments.precision, "class_weights": "none",
        "label_smoothing": 0.0, "problem_type": "single_label_classification",
    }  # fmt: skip
    file = trainer.data_file(folder / "rows.csv", "csv")
    written = trainer.spec("text_classification", file, hyperparameters, CLASSES, arguments.threads)

    def batch(step: int, device: str) -> dict:
        part = rows[step * case.rows : (step + 1) * case.rows]
        longest = max(map(len, part))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in part], device=device)
        labels = torch.tensor([at % len(CLASSES) for at in range(step * case.rows, (step + 1) * case.rows)], device=device)
        return dict(input_ids=ids, attention_mask=(ids > 0).long(), labels=labels)

    return written, (model, batch)


def image(case: Image, arguments: argparse.Namespace, folder: pathlib.Path) -> tuple[dict, object]:
    from PIL import Image as Picture
    from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

    torch.manual_seed(1)
    if "depths" in case.config:
        model = ResNetForImageClassification(ResNetConfig(num_labels=len(CLASSES), **case.config))
        processor = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": case.side}, "crop_pct": 1.0}
    else:
        model = ViTForImageClassification(ViTConfig(num_labels=len(CLASSES), image_size=case.side, **case.config))
        processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": case.side, "width": case.side}}
    model.save_pretrained(folder / "model")
    processor |= dict(do_resize=True, do_rescale=True, rescale_factor=1 / 255, do_normalize=True, resample=2)
    processor |= dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    (folder / "model" / "preprocessor_config.json").write_text(json.dumps(processor))
    chosen = random.Random(1)
    with zipfile.ZipFile(folder / "rows.zip", "w") as archive:
        for number in range(case.rows * arguments.steps):
            side = case.side * 3 // 2
            # Coarse squares: JPEG files of noise would be many times as long as those of photographs.
            small = Picture.frombytes("RGB", (12, 12), chosen.randbytes(12 * 12 * 3)).resize((side, side))
            file = io.BytesIO()
            small.save(file, "JPEG", quality=85)
            archive.writestr(f"{CLASSES[number % len(CLASSES)]}/{number}.jpg", file.getvalue())
    hyperparameters = {"batch_size": case.rows, "precision": arguments.precision, "class_weights": "none", "label_smoothing": 0.0}
    file = trainer.data_file(folder / "rows.zip", "zip")
    written = trainer.spec("image_classification", file, hyperparameters, CLASSES, arguments.threads)

    def batch(step: int, device: str) -> dict:
        pixels = torch.rand(case.rows, 3, case.side, case.side, device=device)
        labels = torch.tensor([(step + at) % len(CLASSES) for at in range(case.rows)], device=device)
        return dict(pixel_values=pixels.to(memory_format=torch.channels_last), labels=labels)

    return written, (model, batch)


def theirs(peer, arguments: argparse.Namespace, device: str, tuned: bool) -> trainer.Run:
    """So many steps as Transformers' Trainer makes them."""
    model, batch = peer
    model = model.to(device).train()
    if tuned and device == "cuda":
        model = model.to(memory_format=torch.channels_last)
    fused = {"fused": True} if tuned and device == "cuda" else {}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, **fused)
    seconds = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for step in range(arguments.steps):
        inputs = batch(step, device)
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=tuned and arguments.precision == "bf16"):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        # As the Trainer reads the loss when it logs.
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return trainer.Run(seconds, torch.cuda.max_memory_allocated() if device == "cuda" else None, "")


def row(name: str, run: trainer.Run, count: int, base: float, busy: float | None = None) -> str:
    settled = run.seconds[WARM_UP:]
    median = statistics.median(settled)
    whole = count * len(settled) / sum(settled)
    memory = f"{run.peak / 2**20:,.0f} MiB" if run.peak else ""
    share = "" if busy is None else f"{busy:.0f} %"
    return f"| {name} | {median * 1e3:.2f} ms | {count / median:,.0f} | {whole:,.0f} | {median / base:.2f} | {share} | {memory} |"


def section(build, cases: list, arguments: argparse.Namespace, device: str) -> None:
    for case in cases:
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            written, peer = build(case, arguments, folder)
            with Busy() as busy:
                own = trainer.run(arguments.trainer, folder, written, device, arguments.libtorch)
            profile = trainer.run(arguments.trainer, folder, written, device, arguments.libtorch, True).profile if arguments.profile else ""
        base = statistics.median(own.seconds[WARM_UP:])
        print(f"\n### {case.name}\n\n| | median step | samples/s | of the whole run | its step over ours | GPU busy | memory |")
        print("|---|---|---|---|---|---|---|")
        print(row("finetuned", own, case.rows, base, busy.percent()), flush=True)
        for tuned, what in ((False, "Transformers, as it comes"), (True, "Transformers, tuned")):
            if not arguments.without_peer:
                print(row(what, theirs(peer, arguments, device, tuned), case.rows, base), flush=True)
        print(f"\n{profile}" if profile else "", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trainer.add_options(parser, WARM_UP + 25)
    parser.add_argument("--size", choices=list(CASES), default="full" if torch.cuda.is_available() else "tiny")
    parser.add_argument("--sections", default="text,images,llamas")
    parser.add_argument("--precision", choices=["bf16", "fp32", "tf32"], default="bf16" if torch.cuda.is_available() else "fp32")
    parser.add_argument("--profile", action="store_true", help="a further run of each case that says where the host's time goes")
    arguments, device = trainer.settled(parser, None, WARM_UP)
    cases = CASES[arguments.size]
    print(f"## {torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}, {arguments.precision}")
    for name in arguments.sections.split(","):
        if name not in cases:
            sys.exit(f"there is no section {name}; there are {', '.join(cases)}")
        started = time.monotonic()
        if name == "llamas":
            for size, rows, length in cases[name]:
                more = ["--without-peer"] * arguments.without_peer + ["--libtorch-of-torch"] * arguments.libtorch_of_torch
                llamas.main(["--trainer", str(arguments.trainer), "--size", size, "--rows", str(rows), "--length", str(length), *more])
        else:
            section({"text": text, "images": image}[name], cases[name], arguments, device)
        print(f"\n{name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
