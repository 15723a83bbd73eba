#!/usr/bin/env python3
"""Make the golden values of the text encoder families with PyTorch and Transformers.

    make golden

For each family a tiny model with random weights: as a sequence classifier and as a masked language model the logits,
the loss and every gradient; the mean-pooled embeddings; and a loss curve of 20 steps. Beside them tiny base models, as
people import them. The same versions give the same files.
"""

import json
import os
import pathlib
import re
import shutil
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, get_scheduler

import make

HERE = pathlib.Path(__file__).resolve().parent
VOCABULARY, CLASSES, MASK, LENGTHS = 61, 5, 4, [3, 17, 1, 9, 30, 8]
BERT = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=40)
BERT |= dict(vocab_size=VOCABULARY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
ROBERTA = BERT | dict(type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5)
MPNET = BERT | dict(pad_token_id=1)
DISTILBERT = dict(vocab_size=VOCABULARY, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=40)
DISTILBERT |= dict(dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0)
# Sequences of up to 30 tokens, of which a local layer sees 4 to each side.
MODERNBERT = dict(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=24)
MODERNBERT |= dict(max_position_embeddings=40, local_attention=8, pad_token_id=0, cls_token_id=2, sep_token_id=3)
MODERNBERT |= dict(bos_token_id=2, eos_token_id=3)
BIASES = dict(norm_bias=True, attention_bias=True, mlp_bias=True, classifier_bias=True)
# Family: class prefix, shape, and what differs for the classifier and for the masked language model.
FAMILIES = {
    "bert": ("Bert", BERT, {}, {}),
    "roberta": ("Roberta", ROBERTA, {}, {}),
    "xlm-roberta": ("XLMRoberta", ROBERTA, dict(hidden_act="gelu_new"), dict(type_vocab_size=2)),
    "mpnet": ("MPNet", MPNET, {}, {}),
    "distilbert": ("DistilBert", DISTILBERT, dict(activation="relu"), {}),
    "modernbert": ("ModernBert", MODERNBERT, dict(classifier_pooling="mean"), BIASES),
}


def build(family: str, task: str, **changes):
    """A model for "SequenceClassification" or "MaskedLM"; random weights of a size that shows in its outputs."""
    prefix, shape, classifier, masked = FAMILIES[family]
    if task == "SequenceClassification":
        changes = classifier | dict(num_labels=CLASSES) | changes
    else:
        changes = masked | changes
    config = getattr(transformers, f"{prefix}Config")(**(shape | changes))
    model = getattr(transformers, f"{prefix}For{task}")(config)
    randomise(model)
    return model


def randomise(model: torch.nn.Module) -> None:
    """As make.py's, for every family's names of norms."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = re.search(r"norm\.weight$", name, re.IGNORECASE)
            parameter.copy_(noise * 0.1 + (1.0 if is_scale else 0.0))


def as_saved(model, prefix: str) -> dict:
    """The tensors of `save_pretrained`'s file: tied ones once."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = load_file(f"{folder}/model.safetensors")
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def batch(model, generator: torch.Generator, lengths: list[int]) -> dict:
    """Padded ids and mask. Ids below 5 are special, the padding's among them."""
    ids = torch.full((len(lengths), max(lengths)), model.config.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, VOCABULARY, (length,), generator=generator)
        mask[row, :length] = 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    if getattr(model.config, "type_vocab_size", 1) > 1:
        inputs["token_type_ids"] = torch.randint(0, 2, ids.shape, generator=generator) * mask
    return inputs


def described(inputs: dict, prefix: str) -> dict:
    """What the engine's tests need of a batch."""
    tensors = {f"{prefix}{key}": value for key, value in inputs.items() if key != "attention_mask"}
    return tensors | {f"{prefix}lengths": inputs["attention_mask"].sum(1)}


def one_step(model, inputs: dict, prefix: str) -> tuple:
    """Loss and gradients of one batch, and the model's outputs."""
    result = model(**inputs)
    result.loss.backward()
    saved = as_saved(model, "")
    tensors = {f"{prefix}weight.{name}": value for name, value in saved.items()} | described(inputs, prefix)
    # A tied parameter has its gradient under the name that is saved.
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tensors |= {f"{prefix}grad.{name}": parameters[name].grad for name in saved}
    return tensors | {f"{prefix}loss": result.loss.reshape(1)}, result


def classification(family: str) -> dict:
    generator = torch.Generator().manual_seed(1)
    model = build(family, "SequenceClassification")
    inputs = batch(model, generator, LENGTHS)
    mask = inputs["attention_mask"].unsqueeze(-1)
    with torch.no_grad():
        hidden = model.base_model(**inputs).last_hidden_state
        embeddings = (hidden * mask).sum(1) / mask.sum(1)
    inputs["labels"] = torch.randint(0, CLASSES, (len(LENGTHS),), generator=generator)
    tensors, result = one_step(model, inputs, "classifier.")
    return tensors | {"classifier.logits": result.logits, "classifier.embeddings": embeddings}


def masked_lm(family: str) -> dict:
    """A third of the tokens is to be guessed; logits are those of these tokens alone."""
    generator = torch.Generator().manual_seed(3)
    model = build(family, "MaskedLM")
    inputs = batch(model, generator, LENGTHS)
    chosen = (torch.rand(inputs["input_ids"].shape, generator=generator) < 0.35) & inputs["attention_mask"].bool()
    inputs["labels"] = torch.where(chosen, inputs["input_ids"], -100)
    inputs["input_ids"] = torch.where(chosen, MASK, inputs["input_ids"])
    tensors, result = one_step(model, inputs, "masked.")
    return tensors | {"masked.logits": result.logits[chosen]}


def curve(family: str) -> dict:
    """Twenty steps as Transformers' Trainer takes them: AdamW, warm-up and linear fall, clipping at 1."""
    model = build(family, "SequenceClassification", **(dict(classifier_pooling="cls") if family == "modernbert" else {}))
    tensors = as_saved(model, "curve.weight.")
    generator = torch.Generator().manual_seed(2)
    forbidden = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
    decayed = [p for n, p in model.named_parameters() if not forbidden.search(n.lower())]
    others = [p for n, p in model.named_parameters() if forbidden.search(n.lower())]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=3, num_training_steps=20)
    losses, norms = [], []
    for step in range(20):
        inputs = batch(model, generator, [1 + (7 * step + 5 * row) % 23 for row in range(8)])
        inputs["labels"] = torch.randint(0, CLASSES, (8,), generator=generator)
        tensors |= described(inputs, f"curve.step{step}.")
        loss = model(**inputs).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return tensors | {"curve.losses": torch.tensor(losses), "curve.norms": torch.tensor(norms)}


def save_values(family: str) -> None:
    tensors = classification(family) | masked_lm(family)
    if family != "bert":
        tensors |= curve(family)
    path = HERE / f"text_{family}.safetensors"
    save_file({key: value.detach().to(torch.float32).contiguous().clone() for key, value in tensors.items()}, path)
    path.chmod(0o644)


def configs() -> None:
    """config.json of every model above, by family and task."""
    tasks = {"classifier": "SequenceClassification", "masked": "MaskedLM"}
    found = {
        family: {name: json.loads(build(family, task).config.to_json_string()) for name, task in tasks.items()}
        for family in FAMILIES
    }
    (HERE / "text_configs.json").write_text(json.dumps(found, indent=1) + "\n")


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with RoBERTa's special tokens, trained on make.py's words."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator([" ".join(make.WORDS[start:]) for start in range(len(make.WORDS))], trainer)
    ids = {token: inner.token_to_id(token) for token in special}
    inner.post_processor = processors.RobertaProcessing(("</s>", ids["</s>"]), ("<s>", ids["<s>"]), add_prefix_space=False)
    names = dict(bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>")
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", mask_token="<mask>", model_max_length=64, **names)


def base_models() -> None:
    """With a masked language model's head (RoBERTa, ModernBERT) and without (DistilBERT), as published ones are."""
    bytes_, words = byte_level_tokenizer(), make.tokenizer()
    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    roberta = transformers.RobertaConfig(
        vocab_size=len(bytes_), max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5, **shape
    )
    distilbert = transformers.DistilBertConfig(
        vocab_size=len(words), dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64
    )
    ids = dict(pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3)
    modernbert = transformers.ModernBertConfig(
        vocab_size=len(words), max_position_embeddings=64, local_attention=16, **(shape | dict(num_hidden_layers=3)), **ids
    )
    for name, model, fast in (
        ("tiny-roberta", transformers.RobertaForMaskedLM(roberta), bytes_),
        ("tiny-distilbert", transformers.DistilBertModel(distilbert), words),
        ("tiny-modernbert", transformers.ModernBertForMaskedLM(modernbert), words),
    ):
        randomise(model)
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
        for file in folder.iterdir():
            file.chmod(0o644)
    texts = ["how do i get my new card", "", "Ärger — ZÄHLT 日本 <mask>!", "  pending   transfers ", "a " * 100]
    encoded = [{"text": text, "ids": bytes_(text, truncation=True, max_length=64)["input_ids"]} for text in texts]
    (HERE / "byte_tokens.json").write_text(json.dumps(encoded, indent=1) + "\n")


def main() -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for family in FAMILIES:
        save_values(family)
    configs()
    base_models()


if __name__ == "__main__":
    main()
