// The openai and @anthropic-ai/sdk packages of npm, as check.py does for Python.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const url = process.env.SERVER_URL;
const model = 'scripted';
const openai = new OpenAI({ baseURL: url + '/v1', apiKey: 'none', maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey: 'none', maxRetries: 0 });
const user = (scene) => [{ role: 'user', content: `Now @${scene}` }];
const plain = 'Just an answer, no tag at all.';
const sunny = 'It is sunny in Paris.';
const Person = z.object({ name: z.string(), age: z.number().int() });
const schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const ada = { name: 'Ada', age: 36 };

const checks = [
  ['openai', 'chat.completions.create, whole and streamed', async () => {
    const whole = await openai.chat.completions.create({ model, messages: user('plain') });
    assert.equal(whole.choices[0].message.content, plain);
    let text = '';
    for await (const c of await openai.chat.completions.create({ model, messages: user('plain'), stream: true }))
      text += c.choices[0].delta.content ?? '';
    assert.equal(text, plain);
  }],
  ['openai', 'chat.completions.parse with zod; chat.completions.stream', async () => {
    const parsed = await openai.chat.completions.parse(
      { model, messages: user('json'), response_format: zodResponseFormat(Person, 'person') });
    assert.deepEqual(parsed.choices[0].message.parsed, ada);
    const stream = openai.chat.completions.stream(
      { model, messages: user('json'), response_format: zodResponseFormat(Person, 'person') });
    assert.deepEqual((await stream.finalChatCompletion()).choices[0].message.parsed, ada);
  }],
  ['openai', 'chat.completions.runTools, whole and streamed', async () => {
    for (const stream of [false, true]) {
      const tool = { type: 'function', function: { name: 'get_weather', parameters: schema, parse: JSON.parse,
        function: ({ city }) => `sunny in ${city}` } };
      const runner = openai.chat.completions.runTools({ model, messages: user('weather'), tools: [tool], stream });
      assert.equal(await runner.finalContent(), sunny);
    }
  }],
  ['openai', 'responses.create and responses.stream', async () => {
    assert.equal((await openai.responses.create({ model, input: 'Now @plain' })).output_text, plain);
    const stream = openai.responses.stream({ model, input: 'Now @plain' });
    assert.equal((await stream.finalResponse()).output_text, plain);
  }],
  ['@anthropic-ai/sdk', 'messages.create, messages.stream, messages.countTokens', async () => {
    const request = { model, max_tokens: 500, messages: user('plain') };
    assert.equal((await anthropic.messages.create(request)).content.at(-1).text, plain);
    assert.equal(await anthropic.messages.stream(request).finalText(), plain);
    const { input_tokens: count } = await anthropic.messages.countTokens({ model, messages: user('plain') });
    assert.equal((await anthropic.messages.create(request)).usage.input_tokens, count);
  }],
  ['@anthropic-ai/sdk', 'thinking, streamed; a tool_use block, its tool_result, the answer', async () => {
    const thinking = { type: 'enabled', budget_tokens: 1024 };
    const thought = await anthropic.messages.stream(
      { model, max_tokens: 2000, messages: user('think'), thinking }).finalMessage();
    assert.deepEqual(thought.content.map((b) => b.type), ['thinking', 'text']);
    const tools = [{ name: 'get_weather', input_schema: schema }];
    const messages = user('weather');
    const first = await anthropic.messages.stream({ model, max_tokens: 500, messages, tools }).finalMessage();
    const use = first.content.find((b) => b.type === 'tool_use');
    assert.deepEqual(use.input, { city: 'Paris' });
    messages.push({ role: 'assistant', content: first.content }, { role: 'user', content: [
      { type: 'tool_result', tool_use_id: use.id, content: 'sunny' }] });
    const last = await anthropic.messages.create({ model, max_tokens: 500, messages, tools });
    assert.equal(last.content.at(-1).text, sunny);
  }],
];

for (const [client, what, check] of checks) {
  const { version } = JSON.parse(readFileSync(`node_modules/${client}/package.json`));
  let error = null;
  try {
    await check();
  } catch (e) {
    console.error(e);
    error = String(e).slice(0, 300);
    process.exitCode = 1;
  }
  console.log(JSON.stringify({ client: `${client} (npm)`, version, what, error }));
}
