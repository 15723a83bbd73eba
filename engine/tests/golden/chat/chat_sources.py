"""The chat templates of the golden values, and the same with what assistants write marked by hand.

Templates that TRL ships (Apache-2.0, byte by byte those of the models) are read from it; the others are those that the models'
authors published. Marked templates are made by edits, each of which must fit exactly once.
"""

import importlib.util
import pathlib

TRL = pathlib.Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a "
    "helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] "
    "+ '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
PHI4 = (
    "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + message['content'] "
    "+ '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}"
    "{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>' + message['content'] + '<|im_end|>'}}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- This block checks for alternating user/assistant messages, skipping tool calling messages #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
            {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {%- if not message.tool_call_id is defined or message.tool_call_id|length != 9 %}
            {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
        {%- endif %}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""


def trl(name: str) -> str:
    return (TRL / f"{name}.jinja").read_text(encoding="utf-8")


# What stands around the output of one role's branch, in templates that write all roles alike.
ALIKE = "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
ALIKE_MARKED = (
    "message['role'] + '\n'}}{% if message['role'] == 'assistant' %}{% generation %}{{message['content'] + '<|im_end|>'}}"
    "{% endgeneration %}{% else %}{{message['content'] + '<|im_end|>'}}{% endif %}{{'\n'}}"
)
TOOL_OUTPUT = "{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}"
FIRST_CALL = "{%- for tool in message['tool_calls']%}{%- if not ns.is_first %}{{'<｜Assistant｜><｜tool▁calls▁begin｜>"
LAST_CALL = "{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor %}"

# Family: its template, the special tokens that it asks for, and the edits that mark what assistants write.
FAMILIES = {
    "llama3": (
        trl("llama3_2"),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        [
            (
                "'<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}",
                "'<|end_header_id|>\\n\\n' }}{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] | "
                "trim + '<|eot_id|>' }}{% endgeneration %}{% else %}{{ message['content'] | trim + '<|eot_id|>' }}{% endif %}",
            ),
            ("        {{- '{\"name\": \"' + tool_call.name", "{%- generation %}{{- '{\"name\": \"' + tool_call.name"),
            ('{{- "}" }}\n        {{- "<|eot_id|>" }}', '{{- "}" }}{{- "<|eot_id|>" }}{%- endgeneration %}'),
        ],
    ),
    "qwen2.5": (
        trl("qwen2_5"),
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        [
            (
                "'<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}",
                "'<|im_start|>' + message.role + '\\n' }}{% if message.role == 'assistant' %}{% generation %}"
                "{{ message.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ message.content + '<|im_end|>' }}{% endif %}"
                "{{ '\\n' }}",
            ),
            (
                "{{- '<|im_start|>' + message.role }}\n        {%- if message.content %}\n            {{- '\\n' + message.content }}",
                "{{- '<|im_start|>' + message.role + '\\n' }}{%- generation %}{%- if message.content %}{{- message.content }}",
            ),
            (
                "{{- '\\n<tool_call>\\n{\"name\": \"' }}",
                "{{- '\\n' if message.content or not loop.first }}{{- '<tool_call>\\n{\"name\": \"' }}",
            ),
            (
                "{%- endfor %}\n        {{- '<|im_end|>\\n' }}",
                "{%- endfor %}{{- '<|im_end|>' }}{%- endgeneration %}{{- '\\n' }}",
            ),
        ],
    ),
    "qwen3": (
        trl("qwen3"),
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        [
            (
                "        {%- if loop.index0 > ns.last_query_index %}",
                "{{- '<|im_start|>' + message.role + '\\n' }}{%- generation %}{%- if loop.index0 > ns.last_query_index %}",
            ),
            ("{{- '<|im_start|>' + message.role + '\\n<think>\\n' +", "{{- '<think>\\n' +"),
            (
                "            {%- else %}\n                {{- '<|im_start|>' + message.role + '\\n' + content }}\n            {%- endif %}\n"
                "        {%- else %}\n            {{- '<|im_start|>' + message.role + '\\n' + content }}",
                "{%- else %}{{- content }}{%- endif %}{%- else %}{{- content }}",
            ),
            (
                "            {%- endfor %}\n        {%- endif %}\n        {{- '<|im_end|>\\n' }}",
                "{%- endfor %}{%- endif %}{{- '<|im_end|>' }}{%- endgeneration %}{{- '\\n' }}",
            ),
        ],
    ),
    "mistral": (
        MISTRAL,
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        [
            ('        {{- "[TOOL_CALLS] [" }}', '{%- generation %}{{- "[TOOL_CALLS] [" }}'),
            (
                '{{- "]" + eos_token }}\n            {%- endif %}\n        {%- endfor %}',
                '{{- "]" + eos_token }}{%- endif %}{%- endfor %}{%- endgeneration %}',
            ),
            (
                '        {{- " " + message["content"]|trim + eos_token}}',
                '{%- generation %}{{- " " + message["content"]|trim + eos_token}}{%- endgeneration %}',
            ),
        ],
    ),
    "gemma2": (
        trl("gemma"),
        {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"},
        [
            (
                "+ role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}",
                "+ role + '\n' }}{% if role == 'model' %}{% generation %}{{ message['content'] | trim + '<end_of_turn>' }}"
                "{% endgeneration %}{% else %}{{ message['content'] | trim + '<end_of_turn>' }}{% endif %}{{ '\n' }}",
            ),
        ],
    ),
    "chatml": (CHATML, {"bos_token": "<s>", "eos_token": "<|im_end|>"}, [(ALIKE, ALIKE_MARKED)]),
    "zephyr": (
        ZEPHYR,
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"},
        [
            (
                "{{ '<|assistant|>\n'  + message['content'] + eos_token }}",
                "{{ '<|assistant|>\n' }}{% generation %}{{ message['content'] + eos_token }}{% endgeneration +%}",
            ),
        ],
    ),
    "phi3": (
        trl("phi3"),
        {"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>", "pad_token": "<|endoftext|>"},
        [
            (
                "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}",
                "{{'<|assistant|>\n'}}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}{{ '\n' }}",
            ),
        ],
    ),
    "phi4": (
        PHI4,
        {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|dummy_85|>"},
        [
            (
                "{{'<|im_start|>assistant<|im_sep|>' + message['content'] + '<|im_end|>'}}",
                "{{'<|im_start|>assistant<|im_sep|>'}}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}",
            ),
        ],
    ),
    "smollm2": (SMOLLM2, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}, [(ALIKE, ALIKE_MARKED)]),
    "deepseek-r1": (
        trl("deepseek_r1_distill"),
        {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
        [
            (
                FIRST_CALL,
                "{%- if message['tool_calls'] and not ns.is_first %}{{'<｜Assistant｜>'}}{%- endif %}{%- generation %}"
                "{%- for tool in message['tool_calls']%}{%- if not ns.is_first %}{{'<｜tool▁calls▁begin｜>",
            ),
            (LAST_CALL, LAST_CALL + "{%- endgeneration %}"),
            (
                TOOL_OUTPUT,
                "{{'<｜tool▁outputs▁end｜>'}}{%- generation %}{{message['content'] + '<｜end▁of▁sentence｜>'}}{%- endgeneration %}",
            ),
            (
                "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}",
                "{{'<｜Assistant｜>'}}{%- generation %}{{content + '<｜end▁of▁sentence｜>'}}{%- endgeneration %}",
            ),
        ],
    ),
}


def marked(template: str, edits: list[tuple[str, str]]) -> str:
    """The template with its edits."""
    for before, after in edits:
        assert template.count(before) == 1, (template.count(before), before)
        template = template.replace(before, after)
    return template
