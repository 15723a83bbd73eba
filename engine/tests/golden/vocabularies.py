#!/usr/bin/env python3
"""Make the golden values of tokenizers that are built from vocab.txt, or from vocab.json and merges.txt.

    make golden

Each case is a folder's files and what Transformers' own class makes of them: its tokenizer.json, but for the vocabulary,
and the ids of texts and pairs.
"""

import json
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

from transformers import BertTokenizer, DistilBertTokenizer, MPNetTokenizer, RobertaTokenizer

HERE = pathlib.Path(__file__).resolve().parent
WORDS = "the new card has not come yet where is my über straße 日 本 語 Card Über ##s ##ing ##ed a b c ##a ##b ##c . , ! é e".split()
BERT = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MPNET = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
TEXTS = [
    "The new CARD has not come yet!",
    "Über die Straße, é",
    "日本語 abc",
    "",
    "cards  coming [MASK] <mask> here\tnow\n",
    "my [ENT] is NewWord here </s>",
    "xyzzy " * 3 + "abcabc" * 30,
]
PAIRS = [("where is my card", "not come yet"), ("", "a")]
LETTERS = ["Ġ", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,!", "Ã", "¼", "Ń", "Č", "ĉ", "Ċ"]
MERGES = ["#version: 0.2", "Ġ t", "h e", "Ġt he", "c a", "r d", "ca rd", "Ġ card", "i n", "in g"]


def words(special: list[str], more: str = "") -> str:
    return "\n".join(special + WORDS) + "\n" + more


def byte_files() -> dict:
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *LETTERS]
    tokens += ["".join(merge.split()) for merge in MERGES[1:]]
    return {"vocab.json": json.dumps({token: number for number, token in enumerate(tokens)}), "merges.txt": "\n".join(MERGES) + "\n"}


def token(content: str, **flags) -> dict:
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False} | flags


CASES = {
    "bert": (BertTokenizer, {"vocab.txt": words(BERT)}),
    "bert_cased": (BertTokenizer, {"vocab.txt": words(BERT), "tokenizer_config.json": {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}}),
    "bert_accents": (
        BertTokenizer,
        {"vocab.txt": words(BERT), "tokenizer_config.json": {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}},
    ),
    "bert_odd_lines": (BertTokenizer, {"vocab.txt": words(BERT, "\nodd\u3000\ntwice\ntwice\n").replace("\n", "\r\n")}),
    "bert_special": (
        BertTokenizer,
        {
            "vocab.txt": words(["<pad>", "<unk>", "<cls>", "<sep>", "<m>"]),
            "tokenizer_config.json": {"do_lower_case": True},
            "special_tokens_map.json": {
                "unk_token": "<unk>",
                "cls_token": "<cls>",
                "sep_token": token("<sep>"),
                "pad_token": "<pad>",
                "mask_token": token("<m>", lstrip=True),
                "additional_special_tokens": ["[ENT]"],
            },
            "added_tokens.json": {"[ENT]": 42, "NewWord": 41},
        },
    ),
    "bert_decoder": (
        BertTokenizer,
        {
            "vocab.txt": words(BERT),
            "tokenizer_config.json": {
                "added_tokens_decoder": {
                    "0": token("[PAD]", special=True),
                    "2": token("[UNK]", special=True),
                    "3": token("[CLS]", special=True),
                    "4": token("[SEP]", special=True),
                    "5": token("[MASK]", special=True),
                    "42": token("[ENT]", normalized=True, special=False),
                },
                "do_lower_case": False,
                "mask_token": "[MASK]",
                "unk_token": "[UNK]",
            },
            # Not read beside that.
            "special_tokens_map.json": {"unk_token": "card"},
        },
    ),
    "distilbert": (DistilBertTokenizer, {"vocab.txt": words(BERT), "tokenizer_config.json": {"do_lower_case": True, "model_max_length": 512}}),
    "mpnet": (MPNetTokenizer, {"vocab.txt": words(MPNET), "tokenizer_config.json": {"tokenizer_class": "MPNetTokenizer", "do_lower_case": True}}),
    "roberta": (RobertaTokenizer, byte_files()),
    "roberta_spaces": (
        RobertaTokenizer,
        byte_files()
        | {
            "tokenizer_config.json": {"tokenizer_class": "RobertaTokenizerFast", "add_prefix_space": True, "trim_offsets": False},
            "special_tokens_map.json": {"mask_token": token("<mask>", lstrip=True)},
        },
    ),
}


def main() -> None:
    cases = {}
    for name, (cls, files) in CASES.items():
        files = {file: content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) for file, content in files.items()}
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                (pathlib.Path(folder) / file).write_text(content, encoding="utf-8", newline="")
            tokenizer = cls.from_pretrained(folder)
            with tempfile.TemporaryDirectory() as saved:
                tokenizer.save_pretrained(saved)
                made = json.loads((pathlib.Path(saved) / "tokenizer.json").read_text())
        del made["model"]["vocab"]
        made["model"].pop("merges", None)
        ids = [tokenizer(text)["input_ids"] for text in TEXTS]
        pairs = [tokenizer(*pair)["input_ids"] for pair in PAIRS]
        cases[name] = {"class": cls.__name__, "files": files, "tokenizer": made, "ids": ids, "pair_ids": pairs}
    golden = {"texts": TEXTS, "pairs": PAIRS, "cases": cases}
    (HERE / "vocabularies.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
