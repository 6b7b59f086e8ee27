/**
 * A real QEMU whose display is on a Unix socket: it stands before its first instruction, and its picture is the text
 * that QEMU draws for that.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const START_MS = 20_000;
const POLL_MS = 20;

export type QemuScreen = AsyncDisposable & { readonly socketPath: string; kill(): void };

export async function startQemuScreen(): Promise<QemuScreen> {
  const directory = await mkdtemp(join(tmpdir(), 'qemu-screen-'));
  const socketPath = join(directory, 'vnc.sock');
  const qemu = spawn(
    'qemu-system-x86_64',
    ['-accel', 'tcg', '-nodefaults', '-m', '16', '-vga', 'std', '-S', '-vnc', `unix:${socketPath}`],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  qemu.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()));
  const exited = once(qemu, 'exit');
  const stop = async (): Promise<void> => {
    qemu.kill('SIGKILL');
    await exited;
    await rm(directory, { recursive: true, force: true });
  };
  const endMs = performance.now() + START_MS;
  while (!(await isThere(socketPath))) {
    const isLate = performance.now() > endMs || qemu.exitCode !== null;
    if (isLate) await stop();
    assert(!isLate, `QEMU made no display at ${socketPath}: ${said}`);
    await delay(POLL_MS);
  }
  return { socketPath, kill: () => qemu.kill('SIGKILL'), [Symbol.asyncDispose]: stop };
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
