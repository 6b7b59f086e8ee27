/** What a thread of the worker pool runs: requests one after another through one function of one module. */
import { strict as assert } from 'node:assert';
import { parentPort, workerData } from 'node:worker_threads';
import { Failure, type FailureCode } from '#/lib/failure.ts';
import { adoptDigestMemory, type SharedDigestMemory } from './digest-memory.ts';
import { SharedMemory } from './shared-memory.ts';

export type ThreadRequest =
  | { kind: 'run'; id: number; request: unknown }
  | { kind: 'share'; number: number; memory: SharedDigestMemory; thread: number }
  | { kind: 'unshare'; number: number };
export type ThreadReply =
  | { kind: 'result'; id: number; result: unknown }
  | { kind: 'failure'; id: number; code: FailureCode; message: string };

assert(parentPort !== null, 'this module is the start of a thread');
const port = parentPort;
const { module, name } = workerData as { module: string; name: string };
const exported = ((await import(module)) as Record<string, (request: unknown) => unknown>)[name];
assert(typeof exported === 'function', `${module} exports no function ${name}`);
const run = exported;

const memory = new SharedMemory();

port.on('message', (message: ThreadRequest) => {
  if (message.kind === 'share') memory.add(message.number, adoptDigestMemory(message.memory, message.thread));
  else if (message.kind === 'unshare') memory.removeNumber(message.number);
  else answer(message.id, message.request);
});

function answer(id: number, request: unknown): void {
  try {
    const result = memory.pack(run(memory.unpack(request)));
    const reply: ThreadReply = { kind: 'result', id, result };
    port.postMessage(reply, [...ownedBuffers(result)]);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const reply: ThreadReply = { kind: 'failure', id, code: error.code, message: error.message };
    port.postMessage(reply);
  }
}

/** Buffers that one array of bytes in the result covers wholly: nobody else on this thread sees them. */
function ownedBuffers(value: unknown, found = new Set<ArrayBuffer>(), depth = 0): Set<ArrayBuffer> {
  if (value instanceof Uint8Array) {
    const { buffer, byteLength } = value;
    if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength && byteLength > 0)
      found.add(buffer);
  } else if (typeof value === 'object' && value !== null && depth < 4) {
    for (const part of Object.values(value)) ownedBuffers(part, found, depth + 1);
  }
  return found;
}
