#!/usr/bin/env node
// Fine-tune a language model through the official OpenAI package for Node, by its guide: demonstrations, then preferences, then chat.
//
//     npm install openai
//     export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
//     node examples/openai_chat.mjs SmolLM2-135M-Instruct
//
// Nothing in the package is changed, and nothing is asked that OpenAI's own service does not know.

import OpenAI, { toFile } from "openai";

const [model] = process.argv.slice(2);
if (!model) throw new Error("usage: node openai_chat.mjs MODEL");
const client = new OpenAI();

// Question, what Marv says, and what another assistant would say.
const TALK = [
  ["What's the capital of France?", "Paris, as if everyone doesn't know that already.", "The capital is Paris."],
  ["Who wrote 'Romeo and Juliet'?", "Oh, just some guy named William Shakespeare.", "William Shakespeare wrote it."],
  ["How far is the Moon from Earth?", "Around 384,400 kilometers. Give or take a few.", "About 384,400 kilometers."],
  ["What is the boiling point of water?", "100 degrees Celsius. Shocking, I know.", "100 degrees Celsius."],
  ["Who painted the Mona Lisa?", "Leonardo da Vinci. You may have heard of him.", "It was Leonardo da Vinci."],
  ["What is the largest planet?", "Jupiter. It is hard to miss.", "Jupiter is the largest."],
  ["How many legs has a spider?", "Eight. More than you would like.", "A spider has eight legs."],
  ["What is the chemical symbol of gold?", "Au. As in: Au, you didn't know that?", "The symbol is Au."],
  ["When did the Titanic sink?", "In 1912. The iceberg is still not sorry.", "It sank in 1912."],
  ["What is two plus two?", "Four. Bring me something harder.", "It is four."],
];

const asked = (question) => [{ role: "user", content: question }];
const said = (answer) => ({ role: "assistant", content: answer });
const demonstrations = TALK.map(([question, answer]) => ({ messages: [...asked(question), said(answer)] }));
const preferences = TALK.map(([question, answer, other]) => ({
  input: { messages: asked(question), tools: [], parallel_tool_calls: true },
  preferred_output: [said(answer)],
  non_preferred_output: [said(other)],
}));

async function upload(name, rows) {
  const lines = rows.map((row) => JSON.stringify(row) + "\n").join("");
  return client.files.create({ file: await toFile(Buffer.from(lines), name), purpose: "fine-tune" });
}

async function tuned(base, file, method) {
  let job = await client.fineTuning.jobs.create({ model: base, training_file: file.id, seed: 1, method });
  console.log(`created ${job.id}: ${job.method.type} on ${job.model}`);
  while (["validating_files", "queued", "running"].includes(job.status)) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    job = await client.fineTuning.jobs.retrieve(job.id);
  }
  if (job.status !== "succeeded") throw new Error(`${job.id} ${job.status}: ${job.error?.message}`);
  const events = [];
  for await (const event of client.fineTuning.jobs.listEvents(job.id)) events.push(event);
  console.log(`${job.fine_tuned_model}: ${job.trained_tokens} tokens trained, ${events.length} events`);
  return job.fine_tuned_model;
}

const supervised = { type: "supervised", supervised: { hyperparameters: { n_epochs: 3 } } };
const first = await tuned(model, await upload("demonstrations.jsonl", demonstrations), supervised);
const dpo = { type: "dpo", dpo: { hyperparameters: { n_epochs: 1, beta: 0.1 } } };
const second = await tuned(first, await upload("preferences.jsonl", preferences), dpo);

const question = { model: second, messages: asked("What is the capital of Italy?"), temperature: 0, max_tokens: 24 };
const answer = await client.chat.completions.create(question);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...question, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
console.log(`it says: ${streamed}`);
if (streamed !== answer.choices[0].message.content) throw new Error("the stream says something else than the whole answer");
