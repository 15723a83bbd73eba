#!/usr/bin/env python3
"""Make the golden values of the engine's tests with PyTorch and Transformers.

    make golden

Everything the tests compare with comes from here: a tiny BERT with random weights, its logits, loss, gradients and a
20-step loss curve, and what PyTorch's optimizer, schedules, clipping and losses give on small inputs. The same
versions give the same files.
"""

import json
import math
import os
import pathlib

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch
from safetensors.torch import save_file
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast, get_scheduler

HERE = pathlib.Path(__file__).resolve().parent
WORDS = """how do i get my new card it has not come yet where is what can you tell me about the exchange rate was wrong
money back please cash machine took fee top up failed why pending transfer to friend cancel payment now account""".split()
PIECES = ["##s", "##ed", "##ing", "##er", "##ly"] + [f"##{chr(c)}" for c in range(ord("a"), ord("z") + 1)]
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789.,?!'-")
CLASSES = 5


def tokenizer() -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = list(dict.fromkeys(special + WORDS + PIECES + LETTERS))
    ids = {token: number for number, token in enumerate(vocabulary)}
    inner = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    names = dict(unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **names)


def config(vocabulary: int, **changes) -> BertConfig:
    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    shape.update(vocab_size=vocabulary, max_position_embeddings=64, **changes)
    return BertConfig(**shape)


def randomise(model: torch.nn.Module) -> None:
    """Weights large enough that every part of the model shows in its outputs."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = "LayerNorm.weight" in name
            parameter.copy_(noise * 0.1 + (1.0 if is_scale else 0.0))


def batch(generator: torch.Generator, vocabulary: int, lengths: list[int]) -> dict:
    """Padded ids and mask, and a random class for each row."""
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, vocabulary, (length,), generator=generator)
        mask[row, :length] = 1
    labels = torch.randint(0, CLASSES, (len(lengths),), generator=generator)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def classifier(vocabulary: int, **changes) -> BertForSequenceClassification:
    off = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BertForSequenceClassification(config(vocabulary, num_labels=CLASSES, **off, **changes))
    randomise(model)
    return model


def save(name: str, tensors: dict) -> None:
    path = HERE / f"{name}.safetensors"
    save_file({key: value.detach().to(torch.float32).contiguous().clone() for key, value in tensors.items()}, path)
    path.chmod(0o644)


def one_step(vocabulary: int, activation: str) -> None:
    """Logits, loss and every gradient of one batch."""
    model = classifier(vocabulary, hidden_act=activation)
    inputs = batch(torch.Generator().manual_seed(1), vocabulary, [3, 17, 1, 9, 30, 8])
    result = model(**inputs)
    result.loss.backward()
    tensors = {f"weight.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"grad.{name}": value.grad for name, value in model.named_parameters()}
    tensors |= {"logits": result.logits, "loss": result.loss.reshape(1), "lengths": inputs["attention_mask"].sum(1)}
    save(f"bert_{activation}", tensors | {key: inputs[key] for key in ("input_ids", "labels")})


def curve(vocabulary: int) -> None:
    """Twenty steps as Transformers' Trainer takes them: AdamW, warm-up and linear fall, clipping at 1."""
    model = classifier(vocabulary)
    tensors = {f"weight.{name}": value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    lengths = [[1 + (7 * step + 5 * row) % 23 for row in range(8)] for step in range(20)]
    decayed = [p for n, p in model.named_parameters() if not ("bias" in n or "LayerNorm" in n)]
    others = [p for n, p in model.named_parameters() if "bias" in n or "LayerNorm" in n]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=3, num_training_steps=20)
    losses, norms = [], []
    for step in range(20):
        inputs = batch(generator, vocabulary, lengths[step])
        tensors |= {f"step{step}.{key}": inputs[key] for key in ("input_ids", "labels")}
        tensors[f"step{step}.lengths"] = inputs["attention_mask"].sum(1)
        loss = model(**inputs).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    tensors |= {f"final.{name}": value for name, value in model.state_dict().items()}
    tensors |= {"losses": torch.tensor(losses, dtype=torch.float64), "norms": torch.tensor(norms, dtype=torch.float64)}
    save("curve", tensors)


def adamw() -> None:
    """Ten updates of two tensors, one of them decayed, with gradients clipped together."""
    generator = torch.Generator().manual_seed(3)
    decayed, plain = (torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((7, 5), (11,)))
    optimizer = torch.optim.AdamW(
        [{"params": [decayed], "weight_decay": 0.1}, {"params": [plain], "weight_decay": 0.0}], lr=0.03
    )
    tensors = {"start.decayed": decayed.clone(), "start.plain": plain.clone()}
    norms = []
    for step in range(10):
        for name, parameter in (("decayed", decayed), ("plain", plain)):
            parameter.grad = torch.randn(parameter.shape, generator=generator) * (0.1 if step % 2 else 2.0)
            tensors[f"grad{step}.{name}"] = parameter.grad.clone()
        norms.append(torch.nn.utils.clip_grad_norm_([decayed, plain], 1.0).item())
        optimizer.step()
        tensors |= {f"after{step}.decayed": decayed.clone(), f"after{step}.plain": plain.clone()}
    save("adamw", tensors | {"norms": torch.tensor(norms, dtype=torch.float64)})


def schedules() -> None:
    """The rate of every update under each schedule."""
    found = []
    for kind, name in (("linear", "linear"), ("cosine", "cosine"), ("constant", "constant_with_warmup")):
        for ratio, total in ((0.0, 10), (0.06, 30), (0.1, 25), (1.0, 8)):
            warmup = math.ceil(ratio * total)
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
            scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
            rates = []
            for _ in range(total):
                rates.append(scheduler.get_last_lr()[0])
                optimizer.step()
                scheduler.step()
            found.append({"kind": kind, "warmup_ratio": ratio, "total": total, "peak": 0.01, "rates": rates})
    (HERE / "schedules.json").write_text(json.dumps(found, indent=1) + "\n")


def losses() -> None:
    """Cross-entropy with class weights and label smoothing, as means; then the losses of other tasks."""
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(9, CLASSES, generator=generator)
    classes = torch.randint(0, CLASSES, (9,), generator=generator)
    weights = torch.rand(CLASSES, generator=generator) + 0.5
    tensors = {"logits": logits, "classes": classes, "weights": weights}
    for name, weight, smoothing in (("plain", None, 0.0), ("weighted", weights, 0.0), ("smooth", None, 0.1), ("both", weights, 0.1)):
        leaf = logits.clone().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(leaf, classes, weight=weight, label_smoothing=smoothing)
        loss.backward()
        tensors |= {f"{name}.loss": loss.reshape(1), f"{name}.grad": leaf.grad}
    save("losses", tensors | several_labels(generator) | ranking(generator))


def with_gradient(name: str, inputs: torch.Tensor, loss) -> dict:
    leaf = inputs.clone().requires_grad_(True)
    value = loss(leaf)
    value.backward()
    return {f"{name}.loss": value.reshape(1), f"{name}.grad": leaf.grad}


def several_labels(generator: torch.Generator) -> dict:
    """BCEWithLogitsLoss, its pos_weight negatives / positives of each label, targets softened towards one half; MSELoss."""
    logits, values = torch.randn(9, CLASSES, generator=generator), torch.randn(9, generator=generator)
    sets = (torch.rand(9, CLASSES, generator=generator) < 0.4).float()
    sets[0] = 1.0
    weights = (9 - sets.sum(0)) / sets.sum(0)
    tensors = {"several.logits": logits, "several.sets": sets, "several.values": values}
    for name, weight, smoothing in (("plain", None, 0.0), ("weighted", weights, 0.0), ("both", weights, 0.1)):
        loss = torch.nn.BCEWithLogitsLoss(pos_weight=weight)
        softened = sets * (1 - smoothing) + smoothing / 2
        tensors |= with_gradient(f"several.{name}", logits, lambda leaf: loss(leaf, softened))
    mean_square = torch.nn.MSELoss()
    return tensors | with_gradient("several.mse", logits[:, :1], lambda leaf: mean_square(leaf.squeeze(), values))


def ranking(generator: torch.Generator) -> dict:
    """MultipleNegativesRankingLoss over pairs and triplets, as sentence-transformers computes it from embeddings: anchors,
    then positives, then negatives."""
    embeddings = torch.randn(15, 8, generator=generator)
    tensors = {"ranking.embeddings": embeddings}
    for name, rows in (("pairs", 10), ("triplets", 15)):
        ranking_loss = MultipleNegativesRankingLoss(model=None, scale=20.0)
        loss = lambda leaf: ranking_loss.compute_loss_from_embeddings(list(leaf.split(5)), None)
        tensors |= with_gradient(f"ranking.{name}", embeddings[:rows], loss)
    return tensors


def tiny_model(fast: PreTrainedTokenizerFast) -> None:
    """A base model as people import it, and what its tokenizer gives."""
    model = BertModel(config(len(fast)))
    randomise(model)
    folder = HERE / "tiny-bert"
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    texts = ["How do I get my new card?", "", "xyzzy 42!", "Ärger — ZÄHLT 日本", "  pending   transfers cancelled  ", "a " * 100]
    encoded = [{"text": text, "ids": fast(text, truncation=True, max_length=64)["input_ids"]} for text in texts]
    (HERE / "tokens.json").write_text(json.dumps(encoded, indent=1) + "\n")


def main() -> None:
    torch.set_num_threads(1)
    fast = tokenizer()
    tiny_model(fast)
    for activation in ("gelu", "gelu_new", "relu"):
        one_step(len(fast), activation)
    curve(len(fast))
    adamw()
    schedules()
    losses()


if __name__ == "__main__":
    main()
