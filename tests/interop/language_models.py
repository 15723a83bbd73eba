"""Language models against Transformers and PEFT: an imported GGUF file, tunes of it, what the service answers with them."""

import argparse
import csv
import json
import math
import os
import pathlib
import shutil
import subprocess
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from families import lines
from checks import load, with_adapter
from demo import DATA, Api, Service, running_service
from gguf import GGUFReader
from jobs import fetch, finished, finished_job
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = 20
TEXTS = 100
TOKENS = 48
# Of logits and losses, both sides in float32.
LARGEST_DIFFERENCE = 1e-3
# How many of the answers must be equal where the service computes in bfloat16.
EQUAL_IN_BF16 = 0.75
SYSTEM = "You answer customers of a bank in one sentence."
LORA = {"learning_rate": 1e-3}
FULL = {"learning_rate": 1e-4, "adapter": "none"}


def computes_in_bf16() -> bool:
    """Whether the service does so where it answers, since the processor has units for it."""
    return " avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text()


def check(what: str, figure: str, holds: bool) -> None:
    print(f"{what}: {figure}", flush=True)
    if not holds:
        raise SystemExit(f"{what}: {figure} is not what it should be")


def queries(name: str, count: int) -> list[tuple[str, str]]:
    """So many of a file's customer queries, from all over it, each with its intent in words."""
    with open(DATA / f"{name}.csv", newline="") as file:
        rows = [(" ".join(row["text"].split()), row["category"].replace("_", " ")) for row in csv.DictReader(file)]
    return rows[:: len(rows) // count][:count]


def write(path: pathlib.Path, rows: list[dict]) -> pathlib.Path:
    path.write_bytes(lines(rows))
    return path


def chats(count: int) -> list[list[dict]]:
    """Conversations in which the assistant names what it is about, half of them with a second turn."""
    found = []
    for number, (text, intent) in enumerate(queries("training", count)):
        turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        turns.append({"role": "assistant", "content": f"This is about {intent}."})
        if number % 2:
            turns += [{"role": "user", "content": "Thanks!"}, {"role": "assistant", "content": "You are welcome."}]
        found.append(turns)
    return found


def preferences(count: int) -> list[dict]:
    rows = queries("training", count)
    pairs = zip(rows, rows[1:] + rows[:1])
    answer = lambda intent: [{"role": "assistant", "content": f"This is about {intent}."}]
    return [
        {
            "input": {"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]},
            "preferred_output": answer(intent),
            "non_preferred_output": answer(f"{wrong}, or something else"),
        }
        for (text, intent), (_, wrong) in pairs
    ]


def post(api: Api, path: str, body: dict) -> dict:
    return json.loads(api.call("POST", path, json.dumps(body)))


def tune(api: Api, model: str, method: str, file: str, more: dict, target: pathlib.Path) -> tuple[str, pathlib.Path]:
    """The name of a model that was tuned in float32, and its folder."""
    hyperparameters = {"n_epochs": 1, "batch_size": 8, "precision": "fp32"} | more
    request = {"model": model, "training_file": file, "seed": 1, "dataset": {"validation_split": 0}}
    request["method"] = {"type": method, method: {"hyperparameters": hyperparameters}}
    job = finished_job(api, post(api, "/fine_tuning/jobs", request)["id"])
    return job["fine_tuned_model"], fetch(api, job["fine_tuned_model"], target)


def model_at(folder: pathlib.Path):
    return load(AutoModelForCausalLM, folder).float()


@torch.no_grad()
def greedy(model, tokenizer, messages: list[dict]) -> str:
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    said = model.generate(**inputs, do_sample=False, max_new_tokens=TOKENS)[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(said, skip_special_tokens=True)


def compare_answers(api: Api, name: str, model, tokenizer, what: str, count: int) -> None:
    """What the service answers to customers, and what Transformers makes of the same model."""
    equal = 0
    for text, _ in queries("test", count):
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        request = {"model": name, "messages": messages, "temperature": 0, "max_tokens": TOKENS}
        ours = post(api, "/chat/completions", request)["choices"][0]["message"]["content"]
        theirs = greedy(model, tokenizer, messages)
        equal += ours == theirs
        if ours != theirs:
            print(f"  {text!r}\n    finetuned:    {ours!r}\n    Transformers: {theirs!r}")
    least = math.ceil(EQUAL_IN_BF16 * count) if computes_in_bf16() else count
    check(f"{what}, answers that are those of Transformers", f"{equal} of {count}", equal >= least)


@torch.no_grad()
def compare_losses(api: Api, name: str, model, tokenizer, scratch: pathlib.Path) -> None:
    """The loss of each of some texts, from an evaluation's lines."""
    texts = [text for text, _ in queries("test", TEXTS)]
    file = api.upload(write(scratch / "texts.jsonl", [{"text": text} for text in texts]))
    method = {"type": "causal_lm", "causal_lm": {"hyperparameters": {"precision": "fp32"}}}
    evaluation = post(api, "/evaluations", {"model": name, "test_file": file, "method": method})
    evaluation = finished(api, f"/evaluations/{evaluation['id']}")
    found = api.call("GET", f"/files/{evaluation['result_files'][0]}/content").decode().splitlines()
    ours = {line["line"]: line for line in map(json.loads, found)}
    assert len(ours) == len(texts), (len(ours), len(texts))
    largest = 0.0
    for number, text in enumerate(texts, 1):
        ids = torch.tensor([tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]])
        loss = model(input_ids=ids, labels=ids).loss.item()
        assert ours[number]["tokens"] == ids.shape[1] - 1, (ours[number], ids)
        largest = max(largest, abs(ours[number]["loss"] - loss))
    check(f"losses of {TEXTS} texts, largest difference", f"{largest:.1e}", largest <= LARGEST_DIFFERENCE)


@torch.no_grad()
def logits_of(model, tokenizer, conversations: list[list[dict]]) -> list[torch.Tensor]:
    encoded = [tokenizer.apply_chat_template(one, return_tensors="pt", return_dict=True) for one in conversations]
    return [model(**inputs).logits for inputs in encoded]


def compare_gguf(gguf: pathlib.Path, model, tokenizer) -> None:
    """What import made of a GGUF file, and what Transformers reads in it."""
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    ours, read = model.state_dict(), theirs.state_dict()
    assert ours.keys() == read.keys(), ours.keys() ^ read.keys()
    # Import rounds what was quantised to bfloat16.
    other = [name for name, value in read.items() if not torch.equal(value.bfloat16(), ours[name].bfloat16())]
    check("tensors of the GGUF file that Transformers reads otherwise", f"{len(other)} of {len(read)}", not other)
    their_tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    conversations = chats(TEXTS)
    render = lambda by, one: by.apply_chat_template(one, add_generation_prompt=True, return_dict=True)["input_ids"]
    other = sum(render(tokenizer, one) != render(their_tokenizer, one) for one in conversations)
    check("chats that its tokenizer and template write otherwise", f"{other} of {len(conversations)}", not other)
    # Their tokenizer takes the token that begins a turn for the one that ends it; their configuration does not.
    assert tokenizer.eos_token_id == theirs.config.eos_token_id, (tokenizer.eos_token_id, theirs.config.eos_token_id)


def compare_tune(api: Api, name: str, folder: pathlib.Path, base: pathlib.Path | None, what: str, count: int) -> None:
    """A tune as it is downloaded: merged, and with `base` as the adapter on it."""
    model, tokenizer = model_at(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == (folder / "chat_template.jinja").read_text()
    if base:
        merged = logits_of(model, tokenizer, chats(8))
        adapted = logits_of(with_adapter(AutoModelForCausalLM, base, folder), tokenizer, chats(8))
        largest = max((one - other).abs().max().item() for one, other in zip(merged, adapted))
        check(f"{what}, merged and with PEFT, logits' largest difference", f"{largest:.1e}", largest <= LARGEST_DIFFERENCE)
    compare_answers(api, name, model, tokenizer, what, count)


def compare_peft(api: Api, service: Service, program: pathlib.Path, base: pathlib.Path, scratch: pathlib.Path) -> None:
    """An adapter that PEFT made: imported upon its base it answers like PEFT's model, and it goes on."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = get_peft_model(model_at(base), config)
    adapted.save_pretrained(scratch / "peft")
    options = ["--name", "peft", "--base", base.name, "--state-dir", service.state]
    subprocess.run([program, "models", "import", scratch / "peft", *options], check=True)
    tokenizer = AutoTokenizer.from_pretrained(base)
    compare_answers(api, "peft", adapted, tokenizer, "an adapter of PEFT's", 4)
    training = api.upload(write(scratch / "few.jsonl", [{"messages": one} for one in chats(16)]))
    name, folder = tune(api, "peft", "supervised", training, {"adapter": "continue", "learning_rate": 1e-4}, scratch / "on")
    further = PeftModel.from_pretrained(model_at(base), folder / "adapter")
    shapes = lambda model: {key: value.shape for key, value in model.state_dict().items() if ".lora_" in key}
    check("an adapter of PEFT's that went on, matrices", f"{len(shapes(further))}", shapes(further) == shapes(adapted))
    compare_answers(api, name, further, tokenizer, "an adapter of PEFT's that went on", 4)


def compare_export(api: Api, name: str, scratch: pathlib.Path) -> None:
    """A tune as a GGUF file, as its own package and Transformers read it."""
    training = api.upload(write(scratch / "some.jsonl", [{"messages": one} for one in chats(16)]))
    _, folder = tune(api, name, "supervised", training, FULL | {"export": "gguf", "gguf_type": "bf16"}, scratch / "export")
    fields = GGUFReader(folder / "model-bf16.gguf").fields
    check("an exported GGUF file, keys", f"{len(fields)}", "tokenizer.chat_template" in fields)
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model-bf16.gguf", dtype=torch.float32).state_dict()
    ours = model_at(folder).state_dict()
    other = [key for key, value in ours.items() if not torch.equal(value.bfloat16(), read[key].bfloat16())]
    check("tensors of it that Transformers reads otherwise", f"{len(other)} of {len(ours)}", not other)


def language_models(service: Service, program: pathlib.Path, gguf: pathlib.Path, scratch: pathlib.Path) -> None:
    """All checks, with a service that has imported the file `gguf`."""
    api, name = Api(service.base_url, service.key), gguf.stem
    folder = fetch(api, name, scratch / "imported")
    model, tokenizer = model_at(folder), AutoTokenizer.from_pretrained(folder)
    compare_gguf(gguf, model, tokenizer)
    compare_losses(api, name, model, tokenizer, scratch)
    compare_answers(api, name, model, tokenizer, "the imported model", PROMPTS)

    # A merged model is rounded to the type of its base, so that is float32 where it is compared with base and adapter.
    base = scratch / "float32"
    shutil.copytree(folder, base)
    model.save_pretrained(base)
    subprocess.run([program, "models", "import", base, "--name", "float32", "--state-dir", service.state], check=True)
    training = api.upload(write(scratch / "chats.jsonl", [{"messages": one} for one in chats(48)]))
    preferred = api.upload(write(scratch / "preferences.jsonl", preferences(32)))
    compare_tune(api, *tune(api, "float32", "supervised", training, LORA, scratch / "lora"), base, "LoRA", 8)
    compare_tune(api, *tune(api, name, "supervised", training, FULL, scratch / "full"), None, "full fine-tune", 8)
    compare_tune(api, *tune(api, "float32", "dpo", preferred, LORA, scratch / "dpo"), base, "DPO", 8)
    compare_peft(api, service, program, base, scratch)
    compare_export(api, name, scratch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", type=pathlib.Path, required=True)
    parser.add_argument("--chat-model", type=pathlib.Path, required=True, help="folder with one GGUF file")
    arguments = parser.parse_args()
    (gguf,) = arguments.chat_model.glob("*.gguf")
    with tempfile.TemporaryDirectory() as scratch, running_service(arguments.service, gguf) as service:
        language_models(service, arguments.service, gguf, pathlib.Path(scratch))


if __name__ == "__main__":
    main()
