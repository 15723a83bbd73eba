"""Loads what the service made with Transformers, PEFT and sentence-transformers, and compares."""

import inspect
import json
import pathlib
import tempfile
import warnings

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    logging,
)

# What a base model lacks or has too much is of no interest, and what a model of ours does is asserted.
logging.set_verbosity_error()
logging.disable_progress_bar()

LARGEST_DIFFERENCE = 1e-4
ARCHITECTURES = {
    "text_classification": AutoModelForSequenceClassification,
    "image_classification": AutoModelForImageClassification,
    "masked_lm": AutoModelForMaskedLM,
    "embedding": AutoModel,
}


def load(architecture, directory: pathlib.Path) -> torch.nn.Module:
    """A model as Transformers loads it: every key must be there, none too many and of the right shape, and what it would
    save must be what the file holds."""
    model, info = architecture.from_pretrained(directory, output_loading_info=True)
    ours = load_file(directory / "model.safetensors")
    odd = {name: set(keys) for name, keys in info.items() if keys}
    if architecture is AutoModel and not any(name.startswith("pooler.") for name in ours):
        # An embedder takes the mean; where the base model has no pooler, it has none either.
        absent = {"pooler.dense.weight", "pooler.dense.bias"}
        odd = {name: keys for name, keys in odd.items() if not keys <= absent}
    else:
        absent = set()
    assert not odd, f"{directory}: {odd}"
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        theirs = load_file(f"{folder}/model.safetensors")
    assert theirs.keys() - absent == ours.keys(), f"{directory}: {theirs.keys() ^ ours.keys()}"
    for name, value in ours.items():
        assert torch.equal(theirs[name], value), f"{directory}: {name} is another one"
    return model.eval()


def predictions(directory: pathlib.Path) -> list[dict]:
    with open(directory / "evaluation" / "predictions.jsonl") as source:
        return [json.loads(line) for line in source]


def encoded(model: torch.nn.Module, directory: pathlib.Path, rows: list[dict]) -> dict:
    """The inputs of these texts, or pairs of them, that the model takes."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    texts = [[row[field] for row in rows] for field in ("text", "text_pair") if field in rows[0]]
    # The tiny models' tokenizers are of no model's own class, and do not know which inputs their model takes.
    inputs = tokenizer(*texts, padding=True, truncation=True, return_token_type_ids=True, return_tensors="pt")
    return {name: value for name, value in inputs.items() if name in inspect.signature(model.forward).parameters}


def pixels(directory: pathlib.Path, rows: list[dict], images: dict) -> dict:
    # Resized by Pillow, as the service's own are; torchvision rounds otherwise.
    processor = AutoImageProcessor.from_pretrained(directory, backend="pil")
    return processor([images[row["file"]] for row in rows], return_tensors="pt")


def logits_of(model: torch.nn.Module, inputs: dict) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def classifier(directory: pathlib.Path, method: str, content, base: pathlib.Path | None) -> float:
    """The largest difference of logits, to those of our evaluation; of an adapter, also to those of PEFT on `base`."""
    model, rows = load(ARCHITECTURES[method], directory), predictions(directory)
    if method == "image_classification":
        inputs = pixels(directory, rows, content)
    else:
        assert len(rows) == len(content), (len(rows), len(content))
        inputs = encoded(model, directory, content)
    logits = logits_of(model, inputs)
    ours = torch.tensor([row.get("logits") or [row["prediction"]] for row in rows])
    difference = (logits - ours).abs().max().item()
    for row, best in zip(rows, logits.argmax(-1).tolist()):
        if "probability" in row:
            assert row["prediction"] == model.config.id2label[best], row
    if base:
        adapted = with_adapter(ARCHITECTURES[method], base, directory, num_labels=model.config.num_labels)
        difference = max(difference, (logits_of(adapted, inputs) - logits).abs().max().item())
        merged = adapted.merge_and_unload()
        difference = max(difference, (logits_of(merged, inputs) - ours).abs().max().item())
    return difference


def with_adapter(architecture, base: pathlib.Path, directory: pathlib.Path, **changes) -> torch.nn.Module:
    """The base model with the adapter that was trained on it, as PEFT loads it without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PeftModel.from_pretrained(architecture.from_pretrained(base, **changes), directory / "adapter")
    stored = load_file(directory / "adapter" / "adapter_model.safetensors")
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    assert state.keys() == stored.keys(), state.keys() ^ stored.keys()
    for name, value in stored.items():
        assert torch.equal(state[name], value), name
    assert any(name.endswith("lora_B.weight") and value.abs().max() > 0 for name, value in stored.items())
    return model.eval()


def masked_lm(directory: pathlib.Path, content: list[dict]) -> float:
    """The file's weights are those of the loaded model, and a masked word gets a likely one: no number of ours to compare."""
    model, tokenizer = load(AutoModelForMaskedLM, directory), AutoTokenizer.from_pretrained(directory)
    inputs = encoded(model, directory, [{"text": f"where is my {tokenizer.mask_token}"}] + content[:8])
    logits = logits_of(model, inputs)
    assert logits.isfinite().all()
    place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    assert tokenizer.decode([logits[0, place].argmax().item()])
    return 0.0


def embedding(directory: pathlib.Path, content: list[dict], base: pathlib.Path | None) -> float:
    """The largest difference of similarities; of an adapter, also of embeddings with PEFT on `base`."""
    load(AutoModel, directory)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = SentenceTransformer(str(directory), device="cpu")
    base_model = json.loads((directory / "manifest.json").read_text())["base_model"]
    usual = (["Transformer", "Pooling", "Normalize"], "mean")
    modules, mode = (["Transformer", "Pooling"], "cls") if base_model == "tiny-cls" else usual
    assert [type(module).__name__ for module in model] == modules and model[1].pooling_mode == mode, model
    assert model.max_seq_length == json.loads((directory / "sentence_bert_config.json").read_text())["max_seq_length"]
    assert model.max_seq_length == 12 or base_model != "tiny-cls", model.max_seq_length
    vectors = [model.encode([row[side] for row in content], convert_to_tensor=True) for side in ("anchor", "positive")]
    similarities = model.similarity_pairwise(*vectors)
    ours = torch.tensor([row["similarity"] for row in predictions(directory)])
    difference = (similarities - ours).abs().max().item()
    if base:
        merged = AutoModel.from_pretrained(directory).eval()
        adapted = with_adapter(AutoModel, base, directory)
        inputs = encoded(merged, directory, [{"text": row["anchor"]} for row in content])
        with torch.no_grad():
            hidden = [one(**inputs).last_hidden_state for one in (merged, adapted)]
        difference = max(difference, (hidden[0] - hidden[1]).abs().max().item())
    return difference


def check(method: str, directory: pathlib.Path, content, base: pathlib.Path | None) -> float:
    """The largest difference between a model of ours and what others make of it; `base` where it has an adapter."""
    if method == "masked_lm":
        difference = masked_lm(directory, content)
    elif method == "embedding":
        difference = embedding(directory, content, base)
    else:
        difference = classifier(directory, method, content, base)
    assert difference <= LARGEST_DIFFERENCE, f"{directory}: {difference:.2e} is more than {LARGEST_DIFFERENCE}"
    return difference
