// What a user of the official Node client does: for each line [URL, SCENARIO] it is given, one line.
const { OpenAI } = require("openai");
const { createInterface } = require("node:readline");

let client;
const asked = { model: "wishes", messages: [{ role: "user", content: "祝姐姐生日快乐" }] };

async function streamed(options = {}) {
  const chunks = [];
  const stream = await client.chat.completions.create({ ...asked, stream: true, ...options });
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const scenarios = {
  async chat() {
    const { data, request_id } = await client.chat.completions.create(asked).withResponse();
    return { ...data, request_id };
  },
  async stream() {
    return await streamed({ stream_options: { include_usage: true } });
  },
  async helper() {
    const runner = client.chat.completions.stream(asked);
    let text = "";
    runner.on("content", (piece) => (text += piece));
    const whole = await runner.finalChatCompletion();
    return { text, whole };
  },
  async models() {
    const all = [];
    for await (const model of await client.models.list()) all.push(model.id);
    return all;
  },
  async unknown() {
    return await client.chat.completions.create({ ...asked, model: "wishse" });
  },
  async empty() {
    return await client.chat.completions.create({ ...asked, messages: [] });
  },
  async leave() {
    const stream = await client.chat.completions.create({ ...asked, stream: true });
    let count = 0;
    for await (const _ of stream) if (++count === 3) stream.controller.abort();
    return count;
  },
  async responses() {
    const whole = await client.responses.create({ model: "wishes", input: "祝姐姐生日快乐" });
    return { status: whole.status, text: whole.output_text };
  },
};
scenarios.fails = streamed;

function failed(error) {
  return {
    error: error.constructor.name,
    known: error instanceof OpenAI.APIError,
    status: error.status,
    code: error.code,
    message: error.message,
  };
}

(async () => {
  for await (const line of createInterface({ input: process.stdin })) {
    const [baseURL, scenario] = JSON.parse(line);
    client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0, timeout: 20_000 });
    const told = await scenarios[scenario]().then((result) => ({ result }), failed);
    console.log(JSON.stringify(told));
  }
})();
