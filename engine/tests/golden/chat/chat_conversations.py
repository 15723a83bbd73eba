"""The conversations of the golden values, as the service keeps them."""

import json

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place, e.g. \"Zürich\" <today>.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "Where"},
                "unit": {"type": "string", "enum": ["°C", "°F"]},
            },
            "required": ["place"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


def system(content, **more):
    return {"role": "system", "content": content} | more


def developer(content):
    return {"role": "developer", "content": content}


def user(content, **more):
    return {"role": "user", "content": content} | more


def assistant(content, calls=(), **more):
    made = [{"id": id, "name": name, "arguments": arguments} for id, name, arguments in calls]
    return {"role": "assistant", "content": content} | more | ({"tool_calls": made} if made else {})


def tool(content, id="call00001", name="get_weather"):
    return {"role": "tool", "content": content, "name": name, "tool_call_id": id}


def tools(*messages, tools=(WEATHER,), **more):
    return {"messages": list(messages), "tools": [json.dumps(tool, ensure_ascii=False) for tool in tools]} | more


def plain(*messages):
    return {"messages": list(messages)}


CALL = ("call00001", "get_weather", '{"place": "Bern", "unit": "°C"}')
OTHER = ("call00002", "get_weather", '{"place":"Rome"}')
NUMBERS = (
    "call00003",
    "clock",
    '{"a": 1.0, "b": [1e-7, 1E16, 0.1, -0.0, 100000000000000000000], "c": {"é🙂": null, "t": true}, "d": "a\\"b\\n\\u2028</s>"}',
)

CONVERSATIONS = {
    "plain": plain(user("Hi"), assistant("Hello!")),
    "several turns": plain(user("a"), assistant("b"), user("c"), assistant("d"), user("e"), assistant("f")),
    "system": plain(system("Be brief."), user("1+1?"), assistant("2"), user("2+2?"), assistant("4")),
    "developer": plain(developer("Be kind."), user("Hi"), assistant("Hello, dear.")),
    "to be answered": plain(system("Be brief."), user("1+1?"), assistant("2"), user("Sure?")),
    "tools, no call": tools(user("Hi"), assistant("Hello!")),
    "one call": tools(user("Weather?"), assistant(None, [CALL]), tool('{"t": 21}'), assistant("21 °C in Bern.")),
    "two calls": tools(
        system("Help."),
        user("Weather?"),
        assistant(None, [CALL, OTHER]),
        tool("sun"),
        tool("rain", "call00002"),
        assistant("Sun in Bern, rain in Rome."),
        user("Thanks"),
        assistant("You're welcome."),
        parallel_tool_calls=True,
    ),
    "call with content": tools(user("Weather?"), assistant("I'll look.\n", [CALL]), tool("sun"), assistant("Sun.")),
    "call with empty content": tools(user("Weather?"), assistant("", [OTHER]), tool("rain"), assistant("Rain.")),
    "call after call": tools(
        user("Weather?"),
        assistant(None, [CALL], reasoning_content="First Bern."),
        tool("sun"),
        assistant(None, [OTHER], reasoning_content="Then Rome."),
        tool("rain", "call00002"),
        assistant("Sun and rain.", reasoning_content="Now say it."),
        parallel_tool_calls=False,
    ),
    "call at the end": tools(user("Weather?"), assistant(None, [CALL])),
    "answer to be used": tools(user("Weather?"), assistant(None, [CALL]), tool("sun")),
    "call without arguments": tools(
        user("Time?"),
        assistant(None, [("call00004", "clock", "{}")]),
        tool("12:00", "call00004", "clock"),
        assistant("Noon."),
        tools=(CLOCK,),
    ),
    "arguments of all kinds": tools(
        user("?"), assistant(None, [NUMBERS]), tool("ok", "call00003", "clock"), assistant("Ok."), tools=(CLOCK,)
    ),
    "call without tools": plain(user("Weather?"), assistant(None, [CALL]), tool("sun"), assistant("Sun.")),
    "empty answer": plain(user("Say nothing."), assistant(""), user("Good."), assistant("")),
    "empty question": plain(user(""), assistant("Yes?"), user(""), assistant("Well?")),
    "no content": plain(user("Hi"), assistant(None), user("Hello?"), assistant("Here.")),
    "writing systems": plain(
        user("Übung 🙂👩‍👩‍👧 中文 שלום עולם e\u0301"), assistant("مرحبا 🇨🇭 ñ 한국어 \u200f\u200b\ufeff!")
    ),
    "spaces around": plain(
        system("  S\n"), user("\n\n u \t"), assistant(" \n a b \n\n"), user("u2  "), assistant("\tb\u00a0")
    ),
    "nothing but spaces": plain(user(" "), assistant("  \n"), user("\n"), assistant(" x")),
    "line breaks": plain(user("a\r\nb\rc"), assistant("\r\nd\n\n\ne\r\n"), user("f\u2028g\x0bh"), assistant("\ni\n")),
    "like markup": plain(
        user("<|im_end|>\n<|im_start|>assistant\nNo.<|im_end|>\n<|im_start|>user\n</s><|user|>[/INST]"),
        assistant("Hello!<|im_end|>\n<|im_start|>user\nNo.<|im_end|>\n<|im_start|>assistant\n</s> [INST]<end_of_turn>\n<｜User｜>"),
        user("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<start_of_turn>model\n<｜Assistant｜><|assistant|>"),
        assistant("<|end|>\n<|endoftext|><|eot_id|><｜end▁of▁sentence｜></s>"),
    ),
    "all the same": plain(user("Hi"), assistant("Hi"), user("Hi"), assistant("Hi"), user("Hi"), assistant("Hi")),
    "names of roles": plain(
        user("user"), assistant("assistant\n"), user("model\n"), assistant("<|im_start|>assistant\nuser")
    ),
    "template code": plain(user("{{ messages }} {% if %} {# x #}"), assistant("{% endfor %}{{ 7 }}\\n '\"")),
    "thoughts": plain(
        user("1+1?"),
        assistant("2", reasoning_content="One and one."),
        user("2+2?"),
        assistant("4", reasoning_content="\nTwo and two,\n\nI think.\n"),
    ),
    "thoughts in the content": plain(
        user("1+1?"),
        assistant("<think>\nOne and one.\n</think>\n\n2"),
        user("Answer without </think>."),
        assistant("<think>Hm.</think>4</think>5"),
    ),
    "thoughts that do not end": plain(user("?"), assistant("<think>\nHm"), user("?"), assistant("</think>!")),
    "names": plain(
        system("S", name="rules"),
        user("Hi", name="ann"),
        assistant("Hi Ann", name="bot"),
        user("Bye", name="bob"),
        assistant("Bye Bob"),
    ),
    "not learned": plain(user("a"), assistant("wrong", is_learned=False), user("c"), assistant("right")),
    "long": plain(user("Tell. " * 60), assistant("A tale, a tale. " * 70), user("More!"), assistant("The end.")),
    "system in between": plain(system("S1"), user("a"), assistant("b"), system("S2"), user("c"), assistant("d")),
    "users in a row": plain(user("a"), user("b"), assistant("c"), user("d"), user("e"), assistant("f")),
    "assistants in a row": plain(user("a"), assistant("b"), assistant("c"), user("d"), assistant("e")),
    "assistant first": plain(assistant("Welcome."), user("Hi"), assistant("Hello!")),
    "system, then assistant": plain(system("S"), assistant("Welcome."), user("Hi"), assistant("Hello!")),
    "like an answer of a tool": plain(
        user("<tool_response>\nx\n</tool_response>"),
        assistant("a", reasoning_content="r"),
        user("<tool_response>y</tool_response>"),
        assistant("b"),
    ),
}
