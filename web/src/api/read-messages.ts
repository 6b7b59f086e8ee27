/** Server-sent events, as HTML's standard has them, read from a response. */

export type Message = { id: string | undefined; event: string; text: string };

const CHARACTERS_MAX = 1024 * 1024;

export async function* readMessages(body: ReadableStream<Uint8Array>): AsyncGenerator<Message> {
  const reader = body.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>).getReader();
  let buffer = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      buffer += value;
      if (buffer.length > CHARACTERS_MAX) throw new Error('a message of the event stream is too long');
      const parts = buffer.split('\n\n');
      buffer = parts.pop() ?? '';
      for (const part of parts) {
        const message = parseMessage(part);
        if (message !== undefined) yield message;
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** Undefined for a comment. */
export function parseMessage(part: string): Message | undefined {
  const fields = new Map<string, string>();
  for (const line of part.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).replace(/^ /, ''));
  }
  const text = fields.get('data');
  return text === undefined
    ? undefined
    : { id: fields.get('id'), event: fields.get('event') ?? 'message', text };
}
