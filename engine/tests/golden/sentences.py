#!/usr/bin/env python3
"""Make the golden values of sentence embeddings with sentence-transformers.

    make golden

The tiny BERT with each way of pooling: the files that sentence-transformers writes around it, or wrote in older versions,
and the embeddings of some texts.
"""

import json
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

HERE = pathlib.Path(__file__).resolve().parent
WIDTH, LONGEST = 32, 9
TEXTS = ["Where is my new card?", "", "a", "pending transfers " * 20, "The exchange RATE was wrong"]
FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
OLDER = "sentence_transformers.models"
TENSORS: dict[str, torch.Tensor] = {}


def files_of(folder: pathlib.Path) -> dict:
    """What sentence-transformers itself wrote: the rest of the folder is Transformers'."""
    names = ["modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json"]
    paths = [folder / name for name in names] + sorted(folder.glob("*_*/config.json"))
    return {str(path.relative_to(folder)): json.loads(path.read_text()) for path in paths if path.is_file()}


def older_files(modes: list[str], is_normalised: bool) -> dict:
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Normalize", "Normalize")] * is_normalised
    listed = [{"idx": n, "name": str(n), "path": path, "type": f"{OLDER}.{kind}"} for n, (path, kind) in enumerate(modules)]
    pooling = {"word_embedding_dimension": WIDTH} | {flag: mode in modes for mode, flag in FLAGS.items()}
    return {
        "modules.json": listed,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": LONGEST, "do_lower_case": False},
    }


def made(modes, is_normalised: bool) -> SentenceTransformer:
    transformer = Transformer(str(HERE / "tiny-bert"), max_seq_length=LONGEST)
    modules = [transformer, Pooling(WIDTH, modes)] + [Normalize()] * is_normalised
    return SentenceTransformer(modules=modules, device="cpu")


def main() -> None:
    torch.set_num_threads(1)
    cases = {}
    ways = [(mode, [mode], False) for mode in FLAGS]
    ways += [("several", ["cls", "max", "lasttoken"], False), ("normalised", ["cls"], True)]
    for name, modes, is_normalised in ways:
        model = made(modes, is_normalised)
        TENSORS[name] = model.encode(TEXTS, convert_to_tensor=True)
        with tempfile.TemporaryDirectory() as folder:
            model.save(folder, create_model_card=False)
            newer = files_of(pathlib.Path(folder))
        older = older_files(modes, is_normalised)
        with tempfile.TemporaryDirectory() as folder:
            model.save(folder, create_model_card=False)
            for path, content in older.items():
                (pathlib.Path(folder) / path).write_text(json.dumps(content))
            again = SentenceTransformer(folder, device="cpu").encode(TEXTS, convert_to_tensor=True)
            assert torch.equal(again, TENSORS[name]), name
        cases[name] = {"normalised": is_normalised, "files": [newer, older]}
    save_file({name: tensor.contiguous() for name, tensor in TENSORS.items()}, HERE / "sentences.safetensors")
    (HERE / "sentences.safetensors").chmod(0o644)
    golden = {"texts": TEXTS, "longest": LONGEST, "cases": cases}
    (HERE / "sentences.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
