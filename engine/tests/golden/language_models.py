#!/usr/bin/env python3
"""Make the golden values of the language model families with PyTorch, Transformers and PEFT.

    make golden

For each family a tiny model with random weights: logits, loss and every gradient of a batch in which some tokens are
to be guessed, a loss curve of 20 steps, 64 tokens of greedy generation; the same of PEFT's LoRA on all linear layers
where its layers are not like the others'. Of every scaling of rotary positions the logits. The same versions give the
same files.
"""

import make  # first: it keeps transformers offline

import json
import math
import pathlib
import re
import shutil

import torch
import transformers
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, get_scheduler

from text_families import as_saved

HERE = pathlib.Path(__file__).resolve().parent
VOCABULARY, LENGTHS = 61, [3, 17, 2, 9, 30, 8]
LLAMA = dict(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4)
LLAMA |= dict(num_key_value_heads=2, max_position_embeddings=96, bos_token_id=1, eos_token_id=None, pad_token_id=0)
GEMMA = LLAMA | dict(head_dim=8)
GPT2 = dict(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=96, bos_token_id=1, eos_token_id=None)
GPT2 |= dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, pad_token_id=0)
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
JOINED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
# Sequences of up to 30 tokens, of which a window has 5 or 7.
FOUR = dict(num_hidden_layers=4)
# Family: the prefix of its classes, its shape, and the linear layers of its LoRA, where that is compared.
FAMILIES = {
    "gpt2": ("GPT2", GPT2, ["c_attn", "c_proj", "c_fc"]),
    "llama": ("Llama", LLAMA | dict(attention_bias=True, mlp_bias=True), LINEAR),
    "mistral": ("Mistral", LLAMA | dict(sliding_window=5, tie_word_embeddings=True), None),
    "qwen2": ("Qwen2", LLAMA | FOUR | dict(use_sliding_window=True, sliding_window=7, max_window_layers=1), None),
    "qwen3": ("Qwen3", LLAMA | dict(head_dim=6, tie_word_embeddings=True), None),
    "phi3": ("Phi3", LLAMA | dict(rms_norm_eps=1e-4, rope_theta=500.0), JOINED),
    "gemma": ("Gemma", GEMMA, None),
    "gemma2": ("Gemma2", GEMMA | dict(sliding_window=5, query_pre_attn_scalar=12, final_logit_softcapping=3.0), None),
    "gemma3_text": ("Gemma3", GEMMA | dict(num_hidden_layers=3, sliding_window=6, sliding_window_pattern=3, query_pre_attn_scalar=12), None),
}
FAMILIES["gemma2"][1]["attn_logit_softcapping"] = 2.0
# Scalings of rotary positions.
ORIGINAL = dict(original_max_position_embeddings=16)
ROPES = {
    "linear": dict(rope_type="linear", factor=2.5),
    "dynamic": dict(rope_type="dynamic", factor=2.0),
    "llama3": dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, **ORIGINAL),
    "yarn": dict(rope_type="yarn", factor=6.0, beta_fast=4.0, **ORIGINAL),
    "yarn_scaled": dict(rope_type="yarn", factor=6.0, mscale=0.7, mscale_all_dim=1.2, truncate=False, **ORIGINAL),
}
LONG = [1.0 + 0.5 * pair for pair in range(2)]


def build(family: str, **changes):
    prefix, shape, _ = FAMILIES[family]
    config_class = {"Gemma3": "Gemma3TextConfig"}.get(prefix, f"{prefix}Config")
    head = "LMHeadModel" if prefix == "GPT2" else "ForCausalLM"
    config = getattr(transformers, config_class)(**(shape | changes))
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{prefix}{head}")(config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = re.search(r"(norm|ln_\w+)\.weight$", name)
            # Gemma's are differences to one.
            centre = 0.0 if family.startswith("gemma") else 1.0
            parameter.copy_(noise * 0.1 + centre if is_scale else noise * 0.25)
    return model


def batch(generator: torch.Generator, lengths: list[int]) -> dict:
    """Padded rows, of whose tokens but the first about half are to be guessed, in each row the last."""
    ids = torch.zeros((len(lengths), max(lengths)), dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, VOCABULARY, (length,), generator=generator)
        mask[row, :length] = 1
        chosen = torch.rand(length, generator=generator) < 0.5
        chosen[0], chosen[-1] = False, length > 1
        labels[row, :length] = torch.where(chosen, ids[row, :length], -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def described(inputs: dict, prefix: str) -> dict:
    tensors = {f"{prefix}{key}": inputs[key] for key in ("input_ids", "labels")}
    return tensors | {f"{prefix}lengths": inputs["attention_mask"].sum(1)}


def batches() -> list[dict]:
    generator = torch.Generator().manual_seed(2)
    return [batch(generator, [2 + (7 * step + 5 * row) % 23 for row in range(6)]) for step in range(20)]


def guessed(logits: torch.Tensor, inputs: dict) -> torch.Tensor:
    """The logits of the tokens to guess, row by row."""
    return logits[:, :-1][inputs["labels"][:, 1:] != -100]


def curve(model, prefix: str) -> dict:
    """Twenty steps as Transformers' Trainer takes them: AdamW, warm-up and linear fall, clipping at 1."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.01}]
    groups.append({"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=3, num_training_steps=20)
    losses, norms = [], []
    for inputs in batches():
        loss = model(**inputs).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained, 1.0).item())
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {f"{prefix}losses": torch.tensor(losses), f"{prefix}norms": torch.tensor(norms)}


def whole(family: str) -> dict:
    model = build(family)
    tensors = as_saved(model, "weight.")
    inputs = batch(torch.Generator().manual_seed(1), LENGTHS)
    result = model(**inputs)
    result.loss.backward()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tensors |= {name.replace("weight.", "grad.", 1): parameters[name.removeprefix("weight.")].grad for name in list(tensors)}
    tensors |= described(inputs, "") | {"logits": guessed(result.logits, inputs), "loss": result.loss.reshape(1)}
    model.zero_grad()
    prompt = torch.tensor([[7, 3, 11, 5, 40]])
    with torch.no_grad():
        tensors["generated"] = model.generate(prompt, max_new_tokens=64, do_sample=False)[0]
    return tensors | curve(model, "")


def adapters(family: str) -> dict:
    targets = FAMILIES[family][2]
    model = build(family)
    config = dict(task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.0, target_modules=targets)
    model = get_peft_model(model, LoraConfig(fan_in_fan_out=family == "gpt2", **config))
    generator = torch.Generator().manual_seed(11)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for key in sorted(trained):
            # B starts at zero, and A's gradients would be zero with it.
            trained[key].copy_(torch.randn(trained[key].shape, generator=generator) * 0.1)
    tensors = {f"lora.start.{name}": value.clone() for name, value in get_peft_model_state_dict(model).items()}
    inputs = batch(torch.Generator().manual_seed(1), LENGTHS)
    result = model(**inputs)
    result.loss.backward()
    tensors |= {f"lora.grad.{key.replace('.default', '')}": value.grad.clone() for key, value in trained.items()}
    tensors |= {"lora.logits": guessed(result.logits, inputs), "lora.loss": result.loss.reshape(1)}
    model.zero_grad()
    tensors |= curve(model, "lora.")
    merged = model.merge_and_unload()
    return tensors | {name.replace("weight.", "lora.merged.", 1): value for name, value in as_saved(merged, "weight.").items()}


def ropes() -> tuple[dict, dict]:
    """Logits of Llama by its scaling, and of Phi-3 by its own; their weights are those of the families."""
    cases = {name: ("llama", dict(rope_parameters=dict(rope_theta=100.0) | rope)) for name, rope in ROPES.items()}
    long = dict(rope_type="longrope", rope_theta=100.0, short_factor=LONG, long_factor=[9.0, 9.0])
    long |= dict(original_max_position_embeddings=32)
    cases["longrope"] = ("phi3", dict(rope_parameters=long, original_max_position_embeddings=32))
    tensors, configs = {}, {}
    inputs = batch(torch.Generator().manual_seed(1), LENGTHS)
    for name, (family, changes) in cases.items():
        # Dynamic scaling changes nothing up to the model's length.
        model = build(family, **changes)
        with torch.no_grad():
            tensors[f"rope.{name}"] = guessed(model(**inputs).logits, inputs)
        configs[name] = (family, json.loads(model.config.to_json_string()))
    return tensors, configs


TEMPLATE = """{% for message in messages %}{% if loop.first and message.role != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with ChatML's tokens, trained on make.py's words."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator([" ".join(make.WORDS[start:]) for start in range(len(make.WORDS))], trainer)
    names = dict(eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<|im_start|>")
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=256, **names)
    fast.chat_template = TEMPLATE
    return fast


def base_model() -> None:
    """A tiny Llama as people import them."""
    fast = tokenizer()
    shape = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    ids = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    config = transformers.LlamaConfig(vocab_size=len(fast), max_position_embeddings=256, tie_word_embeddings=True, **shape, **ids)
    torch.manual_seed(5)
    folder = HERE / "tiny-llama"
    shutil.rmtree(folder, ignore_errors=True)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)


def main() -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    configs = {}
    for family in FAMILIES:
        values = whole(family)
        if FAMILIES[family][2]:
            values |= adapters(family)
        assert all(math.isfinite(value.detach().float().sum()) for value in values.values())
        make.save(f"lm_{family}", values)
        configs[family] = json.loads(build(family).config.to_json_string())
    shared = {}
    for step, inputs in enumerate(batches()):
        shared |= described(inputs, f"step{step}.")
    tensors, rope_configs = ropes()
    make.save("lm_shared", shared | tensors)
    base_model()
    (HERE / "lm_configs.json").write_text(json.dumps({"families": configs, "ropes": rope_configs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
