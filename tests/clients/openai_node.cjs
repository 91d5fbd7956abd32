// Talks to a server through OpenAI's own package for Node: node openai_node.cjs BASE_URL

const assert = require("node:assert");
const OpenAI = require("openai");

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const model = "smollm2";
const messages = [{ role: "user", content: "What is the capital of France?" }];

async function main() {
  const asked = { model, messages, temperature: 0, max_completion_tokens: 12 };
  const whole = await client.chat.completions.create(asked);
  const text = whole.choices[0].message.content;
  assert.match(text, /Paris/);

  let told = "";
  let usage;
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } })) {
    told += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.strictEqual(told, text);
  assert.strictEqual(usage.completion_tokens, whole.usage.completion_tokens);

  // the package's own reader of streams
  const runner = client.chat.completions.stream(asked);
  assert.strictEqual(await runner.finalContent(), text);

  const completion = await client.completions.create({ model, prompt: "The capital of France is", max_tokens: 2, temperature: 0 });
  assert.strictEqual(completion.choices[0].text, " Paris.");

  const schema = { type: "object", properties: { city: { enum: ["Paris", "Rome"] } }, required: ["city"], additionalProperties: false };
  const format = { type: "json_schema", json_schema: { name: "place", strict: true, schema } };
  const formed = await client.chat.completions.create({ ...asked, max_completion_tokens: 40, response_format: format });
  assert.ok(["Paris", "Rome"].includes(JSON.parse(formed.choices[0].message.content).city), JSON.stringify(formed));

  // without `encoding_format` the package asks for base64 and reads it
  const embedded = await client.embeddings.create({ model, input: ["Paris", "Rome"] });
  assert.strictEqual(embedded.data.length, 2);
  assert.ok(Math.abs(Math.hypot(...embedded.data[1].embedding) - 1) < 1e-5);

  const graph = "save layers.5.output[:, -1, :2] as h";
  const inside = await client.chat.completions.create({ ...asked, patchbay: { graph } });
  assert.deepStrictEqual(inside.patchbay.results.h.shape.slice(2), [2]);

  await assert.rejects(client.chat.completions.create({ ...asked, model: "gpt-9" }), (error) => {
    return error instanceof OpenAI.NotFoundError && error.param === "model";
  });

  // a caller who goes away
  const stream = await client.chat.completions.create({ ...asked, max_completion_tokens: 400, stream: true });
  for await (const _ of stream) break;
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
