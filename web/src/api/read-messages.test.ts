import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMessage, readMessages } from './read-messages.ts';

test('messages come out whole however the bytes were cut', async () => {
  const text =
    'id: 7\nevent: event\ndata: {"a":"ü"}\n\n: still here\n\nevent: change\ndata: {}\n\nevent: cut';
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 3, 1000]) {
    const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
        controller.close();
      },
    });
    const messages = [];
    for await (const message of readMessages(body)) messages.push(message);
    assert.deepEqual(messages, [
      { id: '7', event: 'event', text: '{"a":"ü"}' },
      { id: undefined, event: 'change', text: '{}' },
    ]);
  }
});

test('a comment is no message', () => {
  assert.equal(parseMessage(': still here'), undefined);
});
