#!/usr/bin/env python3
"""Fine-tune a language model through the official OpenAI SDK, by its guide: demonstrations, then preferences, then chat.

    export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
    python examples/openai_chat.py --model SmolLM2-135M-Instruct

Nothing in the SDK is changed, and nothing is asked that OpenAI's own service does not know.
"""

import argparse
import json
import time

import openai

MARV = "Marv is a factual chatbot that is also sarcastic."
# Question, what Marv says, and what another assistant would say.
TALK = [
    ("What's the capital of France?", "Paris, as if everyone doesn't know that already.", "The capital is Paris."),
    ("Who wrote 'Romeo and Juliet'?", "Oh, just some guy named William Shakespeare.", "William Shakespeare wrote it."),
    ("How far is the Moon from Earth?", "Around 384,400 kilometers. Give or take a few.", "About 384,400 kilometers."),
    ("What is the boiling point of water?", "100 degrees Celsius. Shocking, I know.", "100 degrees Celsius."),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci. You may have heard of him.", "It was Leonardo da Vinci."),
    ("What is the largest planet?", "Jupiter. It is hard to miss.", "Jupiter is the largest."),
    ("How many legs has a spider?", "Eight. More than you would like.", "A spider has eight legs."),
    ("What is the chemical symbol of gold?", "Au. As in: Au, you didn't know that?", "The symbol is Au."),
    ("When did the Titanic sink?", "In 1912. The iceberg is still not sorry.", "It sank in 1912."),
    ("What is two plus two?", "Four. Bring me something harder.", "It is four."),
    ("Who discovered penicillin?", "Alexander Fleming, by not doing the dishes.", "Alexander Fleming did."),
    ("What is the fastest land animal?", "The cheetah. You are not in the running.", "It is the cheetah."),
]
# As OpenAI's guide has it, a call that the assistant learns to make.
TOOL = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}


def lines(rows: list) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def demonstrations(has_tools: bool) -> bytes:
    """Conversations, of which one has a turn that is not learned and, for models whose chat template has tools, one calls a tool."""
    rows = []
    for question, answer, _ in TALK:
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rows.append({"messages": [{"role": "system", "content": MARV}, *messages]})
    rows[0]["messages"][1:1] = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello. How may I help you?", "weight": 0},
    ]
    call = {"name": "get_current_weather", "arguments": '{"location": "San Francisco, USA"}'}
    calls = {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
    weather = [{"role": "user", "content": "What is the weather in San Francisco?"}, calls]
    result = {"role": "tool", "tool_call_id": "call_1", "content": "21.0"}
    said = {"role": "assistant", "content": "21 degrees. Pack a sweater anyway."}
    if has_tools:
        rows.append({"messages": [*weather, result, said], "tools": [TOOL], "parallel_tool_calls": False})
    return lines(rows)


def preferences() -> bytes:
    rows = []
    for question, answer, other in TALK:
        rows.append({
            "input": {"messages": [{"role": "user", "content": question}], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [{"role": "assistant", "content": answer}],
            "non_preferred_output": [{"role": "assistant", "content": other}],
        })
    return lines(rows)


def finished(client: openai.OpenAI, job) -> object:
    print(f"created {job.id}: {job.method.type} on {job.model}")
    while job.status in ("validating_files", "queued", "running"):
        time.sleep(0.5)
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.status != "succeeded":
        raise SystemExit(f"{job.status}: {job.error}")
    (event, *_) = client.fine_tuning.jobs.list_events(job.id, limit=1)
    print(f"{job.status}: {job.fine_tuned_model} after {job.trained_tokens} tokens; {event.message}")
    return job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="SmolLM2-135M-Instruct", help="the base model's name")
    parser.add_argument("--tools", action="store_true", help="the model's chat template writes tools: teach it to call one")
    arguments = parser.parse_args()
    client = openai.OpenAI()

    # Demonstrations. Without a method the file decides.
    training = client.files.create(file=("demonstrations.jsonl", demonstrations(arguments.tools)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=arguments.model,
        training_file=training.id,
        suffix="marv",
        seed=42,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 4}}},
    )
    demonstrated = finished(client, job)

    # Preferences, upon what was learned.
    chosen = client.files.create(file=("preferences.jsonl", preferences()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=demonstrated.fine_tuned_model,
        training_file=chosen.id,
        suffix="marv",
        method={"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "beta": 0.1}}},
    )
    preferred = finished(client, job)
    (checkpoint, *_) = client.fine_tuning.jobs.checkpoints.list(preferred.id)
    print(f"checkpoint at step {checkpoint.step_number}: {checkpoint.fine_tuned_model_checkpoint}")

    # Chat, whole and streamed.
    messages = [{"role": "system", "content": MARV}, {"role": "user", "content": TALK[0][0]}]
    for model in (arguments.model, preferred.fine_tuned_model):
        answer = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=24)
        print(f"{model}: {answer.choices[0].message.content!r} ({answer.choices[0].finish_reason}, {answer.usage})")
    stream = client.chat.completions.create(
        model=preferred.fine_tuned_model,
        messages=messages,
        temperature=0,
        max_tokens=24,
        tools=[TOOL] if arguments.tools else openai.omit,
        stream=True,
        stream_options={"include_usage": True},
    )
    pieces, usage = [], None
    for chunk in stream:
        usage = chunk.usage or usage
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    print(f"streamed: {''.join(pieces)!r} in {len(pieces)} pieces, {usage.completion_tokens} tokens")
    try:
        client.chat.completions.create(model=arguments.model, messages=[{"role": "user", "content": "a"}], n=99)
    except openai.BadRequestError as error:
        print(f"refused: {error.param}: {error.body['message']}")


if __name__ == "__main__":
    main()
