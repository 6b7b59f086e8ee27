import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '#/lib/failure.ts';
import type { Clock } from '#/lib/clock.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { restoreAddresses } from './restore-addresses.ts';

const signal = new AbortController().signal;

/** Time passes as soon as somebody waits. */
function hurriedClock(): Clock {
  let nowMs = 0;
  return {
    now: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: async (ms) => void (nowMs += ms),
  };
}

/** A guest whose agent answers after so many questions, and whose program ends so. */
function guest(answersAfter: number, ended: { exitcode: number; said: string }) {
  const begun: string[] = [];
  let asked = 0;
  const command = async (text: string): Promise<string> => {
    const { execute, arguments: args } = JSON.parse(text) as {
      execute: string;
      arguments?: { arg?: string[] };
    };
    if (execute === 'guest-ping' && asked++ < answersAfter) {
      throw new Failure('libvirt_error', 'the agent is not connected');
    }
    if (execute === 'guest-exec') begun.push(args?.arg?.at(-1) ?? '');
    const status = {
      exited: true,
      exitcode: ended.exitcode,
      'out-data': Buffer.from(ended.said).toString('base64'),
    };
    const answers: Record<string, unknown> = { 'guest-exec': { pid: 7 }, 'guest-exec-status': status };
    return JSON.stringify({ return: answers[execute] ?? {} });
  };
  return { domain: { name: 'web', agent: { command } } as unknown as Domain, begun };
}

test('the guest puts back what it kept, as soon as its agent is there', async () => {
  const { begun, domain } = guest(3, { exitcode: 0, said: 'restored by netplan\n' });
  const outcome = await restoreAddresses(domain, hurriedClock(), signal);
  assert.deepEqual(outcome, { words: 'restored by netplan', isRestored: true });
  assert.equal(begun.length, 1);
  assert.match(begun[0]!, /^MODE=restore\n/);
});

test('a guest whose agent stays away, or that cannot, is told of, and no recovery fails by it', async () => {
  const away = await restoreAddresses(
    guest(Infinity, { exitcode: 0, said: '' }).domain,
    hurriedClock(),
    signal,
  );
  assert.equal(away.isRestored, false);
  assert.match(away.words, /may still be those of the other site: its guest agent does not answer/);
  const unable = guest(0, { exitcode: 1, said: 'netplan: no such file' });
  const failed = await restoreAddresses(unable.domain, hurriedClock(), signal);
  assert.deepEqual([failed.isRestored, /no such file/.test(failed.words)], [false, true]);
});
