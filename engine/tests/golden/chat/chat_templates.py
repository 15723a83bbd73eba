#!/usr/bin/env python3
"""Make chat_templates.json and chat_tokens.json with Transformers, jinja2 and the templates that TRL ships.

For each family of chat_sources.py and each of chat_conversations.py: the text, the text with the generation prompt, and what
of it the assistants write, which the template that is marked by hand tells. Null where the template refuses. Tokens and
masks are those of `apply_chat_template(return_assistant_tokens_mask=True)`, of tokenizers that keep spaces and that drop
them; null where that gives up. The same versions give the same files.
"""

import copy
import datetime
import json
import os
import pathlib

os.environ["HF_HUB_OFFLINE"] = "1"

import jinja2
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils
from transformers.utils.chat_template_utils import _compile_jinja_template, _render_with_assistant_indices

from chat_conversations import CONVERSATIONS
from chat_sources import CHATML, FAMILIES, marked

HERE = pathlib.Path(__file__).resolve().parent
# What these templates do not take as Hugging Face documents it: found by reading them.
TEXT_ARGUMENTS = {"deepseek-r1"}
EMPTY_CONTENT = {"gemma2", "chatml", "zephyr", "phi3", "phi4", "smollm2"}
TOKENISED = ["plain", "several turns", "writing systems", "spaces around", "like markup", "thoughts", "assistants in a row"]
NOW = datetime.datetime(2025, 3, 9, 12, 34, 56)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = Clock


def given(conversation: dict, family: str) -> dict:
    """What the template is given."""
    messages = []
    for message in copy.deepcopy(conversation["messages"]):
        message.pop("is_learned", None)
        if message["role"] == "developer":
            message["role"] = "system"
        if message["content"] is None and family in EMPTY_CONTENT:
            message["content"] = ""
        calls = message.pop("tool_calls", [])
        id = message.pop("tool_call_id", None)
        for call in calls:
            arguments = call["arguments"] if family in TEXT_ARGUMENTS else json.loads(call["arguments"])
            function = {"name": call["name"], "arguments": arguments}
            message.setdefault("tool_calls", []).append({"id": call["id"], "type": "function", "function": function})
        messages.append(message | ({"tool_call_id": id} if id else {}))
    tools = [json.loads(tool) for tool in conversation.get("tools", [])] or None
    more = {key: conversation[key] for key in ["parallel_tool_calls"] if key in conversation}
    return {"messages": messages, "tools": tools, "documents": None} | more


def rendered(template: str, arguments: dict, prompt: bool) -> tuple[str, list] | None:
    try:
        compiled = _compile_jinja_template(template)
        return _render_with_assistant_indices(compiled, add_generation_prompt=prompt, **copy.deepcopy(arguments))
    except (jinja2.TemplateError, TypeError):
        return None


def shortened(text: str, prompted: str) -> list:
    """The second text as the characters that it shares with the first, and the rest."""
    shared = len(os.path.commonprefix([text, prompted]))
    return [shared, prompted[shared:]]


def family(name: str) -> dict:
    template, tokens, edits = FAMILIES[name]
    with_marks = marked(template, edits)
    rows = {}
    for title, conversation in CONVERSATIONS.items():
        arguments = given(conversation, name) | tokens
        made = rendered(template, arguments, False)
        spans = rendered(with_marks, arguments, False)
        prompted = rendered(template, arguments, True)
        assert (made is None) == (spans is None) == (prompted is None), (name, title)
        if made is None:
            rows[title] = None
            continue
        assert made[0] == spans[0], (name, title, made[0], spans[0])
        places = [place for place, message in enumerate(conversation["messages"]) if message["role"] == "assistant"]
        assert len(places) == len(spans[1]), (name, title)
        # A turn of which nothing is left has no span.
        kept = [[place, begin, end] for place, (begin, end) in zip(places, spans[1]) if begin < end]
        rows[title] = {"text": made[0], "prompted": shortened(made[0], prompted[0]), "spans": kept}
    return {"template": template, "marked": with_marks, "tokens": tokens, "rows": rows}


def tokenizers() -> dict[str, Tokenizer]:
    special = ["<|im_start|>", "<|im_end|>", "[UNK]"]
    words = [message["content"] or "" for row in CONVERSATIONS.values() for message in row["messages"]]
    words += ["user assistant system"] * 9
    kept = Tokenizer(models.BPE())
    kept.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    settings = dict(special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False)
    kept.train_from_iterator(words, trainers.BpeTrainer(vocab_size=330, **settings))
    letters = sorted({letter for text in words for letter in text if not letter.isspace()})
    pieces = special + letters + [f"##{letter}" for letter in letters] + ["assistant", "user", "Hi"]
    dropped = Tokenizer(models.WordPiece({piece: id for id, piece in enumerate(pieces)}, unk_token="[UNK]"))
    dropped.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    dropped.add_special_tokens(special)
    return {"spaces kept": kept, "spaces dropped": dropped}


def tokens() -> dict:
    made = {}
    template = marked(CHATML, FAMILIES["chatml"][2])
    # Without an end token a turn can end within a character of several tokens.
    ends = ["{{message['content'] + '<|im_end|>'}}{% endgeneration %}", "{{message['content']}}{% endgeneration %}"]
    bare = template.replace(*ends)
    for name, tokenizer in tokenizers().items():
        wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        rows = []
        for title in TOKENISED:
            for chosen in [template, bare]:
                messages = given(CONVERSATIONS[title], "chatml")["messages"]
                asked = dict(return_dict=True, return_assistant_tokens_mask=True)
                out = wrapped.apply_chat_template(messages, chat_template=chosen, **asked)
                _, turns = _render_with_assistant_indices(_compile_jinja_template(chosen), messages, None, None, False)
                # Where no token holds a turn's first character, Transformers leaves this turn and all behind it out.
                gives_up = any(out.char_to_token(0, begin) is None for begin, _ in turns)
                rows.append([title, chosen is bare, out["input_ids"], None if gives_up else out["assistant_masks"]])
        made[name] = {"tokenizer": json.loads(tokenizer.to_str()), "rows": rows}
    return {"template": template, "bare": bare, "tokenizers": made}


def write(name: str, value: dict) -> None:
    """Objects one level down on lines of their own."""
    def lines(value, depth):
        if depth == 0 or not isinstance(value, dict):
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        entries = (f"{json.dumps(key, ensure_ascii=False)}:{lines(item, depth - 1)}" for key, item in value.items())
        return "{" + ",\n".join(entries) + "}"

    (HERE / name).write_text(lines(value, 4) + "\n", encoding="utf-8")


def main() -> None:
    families = {name: family(name) for name in FAMILIES}
    now = int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp())
    write("chat_templates.json", {"now": now, "conversations": CONVERSATIONS, "families": families})
    write("chat_tokens.json", tokens())


if __name__ == "__main__":
    main()
