"""What the comparison trains: tiny base models of every family, small data for every task, and the jobs."""

import csv
import io
import json
import pathlib
import random
import shutil
import sys
import tarfile
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "engine" / "tests" / "golden"
# Behind this folder, which has a file of the same name as one of the golden tests.
sys.path[1:1] = [str(ROOT / "examples"), str(GOLDEN)]

import text_families
import transformers
from demo import DATA
from PIL import Image
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

TEXT = ["tiny-bert", "tiny-roberta", "tiny-distilbert", "tiny-modernbert", "tiny-mpnet", "tiny-xlm-roberta"]
IMAGES = ["tiny-resnet", "tiny-vit", "tiny-deit"]
LORA = {"adapter": {"type": "lora", "r": 4, "alpha": 8}, "learning_rate": 2e-2}
EVERY_LAYER = LORA | {"adapter": LORA["adapter"] | {"target_modules": ["query", "key", "value", "dense"]}}


class Case(typing.NamedTuple):
    """A job: base model, method, name of its data, and hyperparameters beside the usual ones."""

    model: str
    method: str
    data: str
    more: dict = {}

    def __str__(self) -> str:
        return f"{self.model}, {self.method} of {self.data}{', LoRA' if 'adapter' in self.more else ''}"

    def hyperparameters(self) -> dict:
        return {"n_epochs": 2, "batch_size": 16, "precision": "fp32", "learning_rate": 3e-3} | self.more


CASES = [
    *(Case(model, "text_classification", "labels") for model in TEXT),
    Case("tiny-bert", "text_classification", "several labels"),
    Case("tiny-bert", "text_classification", "values", {"problem_type": "regression"}),
    Case("tiny-bert", "text_classification", "pairs"),
    Case("tiny-roberta", "text_classification", "pairs"),
    *(Case(model, "masked_lm", "texts") for model in TEXT),
    *(Case(model, "embedding", "neighbours") for model in TEXT),
    *(Case(model, "image_classification", "images") for model in IMAGES),
    *(Case(model, "text_classification", "labels", LORA) for model in TEXT),
    *(Case(model, "image_classification", "images", LORA) for model in ("tiny-vit", "tiny-deit")),
    Case("tiny-vit", "image_classification", "images", EVERY_LAYER),
    Case("tiny-bert", "embedding", "neighbours", LORA),
    Case("tiny-cls", "embedding", "neighbours"),
    Case("tiny-wrapped", "text_classification", "labels"),
]


def base_models(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Directories by name: the golden tests' ones, and those of families that have none there."""
    tokenizer = text_families.byte_level_tokenizer()
    for family, more in (("mpnet", {}), ("xlm-roberta", {"type_vocab_size": 1})):
        shape = {"vocab_size": len(tokenizer), "max_position_embeddings": 66} | more
        text_families.build(family, "MaskedLM", **shape).save_pretrained(folder / f"tiny-{family}")
        tokenizer.save_pretrained(folder / f"tiny-{family}")
    shape = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    deit = transformers.DeiTModel(transformers.DeiTConfig(image_size=32, patch_size=8, **shape))
    text_families.randomise(deit)
    deit.save_pretrained(folder / "tiny-deit")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder / "tiny-deit")
    as_people_have_them(folder)
    found = {name: GOLDEN / name for name in TEXT + IMAGES if (GOLDEN / name).is_dir()}
    return found | {path.name: path for path in folder.iterdir()}


def as_people_have_them(folder: pathlib.Path) -> None:
    """A model of sentence-transformers with pooling of its own; one saved out of DataParallel, with a vocabulary alone."""
    encoder = Transformer(str(GOLDEN / "tiny-bert"), max_seq_length=12)
    model = SentenceTransformer(modules=[encoder, Pooling(encoder.get_embedding_dimension(), "cls")], device="cpu")
    model.save(str(folder / "tiny-cls"), create_model_card=False)
    wrapped = folder / "tiny-wrapped"
    shutil.copytree(GOLDEN / "tiny-bert", wrapped)
    tensors = load_file(wrapped / "model.safetensors")
    save_file({f"module.{name}": tensor for name, tensor in tensors.items()}, wrapped / "model.safetensors")
    vocabulary = json.loads((wrapped / "tokenizer.json").read_text())["model"]["vocab"]
    (wrapped / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(vocabulary, key=vocabulary.get)))
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 64}
    (wrapped / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (wrapped / "tokenizer.json").unlink()


def lines(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def text_rows(name: str, source: str, every: int) -> list[dict]:
    """Rows of Banking77's customer queries, made into what the data `name` is to be."""
    with open(DATA / f"{source}.csv", newline="") as file:
        queries = [(row["text"], row["category"].split("_")[0]) for row in csv.DictReader(file)]
    queries = [query for query in queries if query[1] in ("card", "cash", "top", "transfer")][::every]
    if name == "pairs":
        # Short enough not to be cut: which text of a pair loses the odd token is each tokenizers version's own affair.
        queries = [(" ".join(text.split()[:5])[:25], topic) for text, topic in queries]
    others = queries[1:] + queries[:1]
    make = {
        "labels": lambda text, topic, _: {"text": text, "label": topic},
        "several labels": lambda text, topic, _: {"text": text, "labels": [topic] + ["question"] * ("?" in text)},
        "values": lambda text, _, __: {"text": text, "label": len(text) / 50},
        "pairs": lambda text, topic, other: {"text": text, "text_pair": other[0], "label": str(topic == other[1])},
        "texts": lambda text, _, __: {"text": text},
        "neighbours": lambda text, _, other: {"anchor": text, "positive": other[0]},
    }[name]
    return [make(text, topic, other) for (text, topic), other in zip(queries, others)]


def image_archive(seed: int, count: int) -> tuple[bytes, dict[str, Image.Image]]:
    """A tar with a folder for each colour, and its images by name; their sides differ."""
    draw, images, sink = random.Random(seed), {}, io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for number in range(count):
            name = ("red", "green", "blue")[number % 3]
            size = (draw.randint(30, 90), draw.randint(30, 90))
            image = Image.frombytes("RGB", size, draw.randbytes(3 * size[0] * size[1]))
            image = Image.blend(image, Image.new("RGB", size, name), 0.5)
            file = io.BytesIO()
            image.save(file, "PNG")
            member = tarfile.TarInfo(f"{name}/{number}.png")
            member.size = len(file.getvalue())
            file.seek(0)
            archive.addfile(member, file)
            images[member.name] = image
    return sink.getvalue(), images


def data(name: str, folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path, typing.Any]:
    """Training and test file, and what the test file holds: rows, or images by name."""
    if name == "images":
        (training, _), (test, content) = image_archive(1, 60), image_archive(2, 30)
        ending = "tar"
    else:
        content = text_rows(name, "test", 12)
        training, test, ending = lines(text_rows(name, "training", 12)), lines(content), "jsonl"
    paths = [folder / f"{part}-{name.replace(' ', '-')}.{ending}" for part in ("training", "test")]
    for path, contents in zip(paths, (training, test)):
        path.write_bytes(contents)
    return *paths, content
