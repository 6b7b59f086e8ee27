/** The files of a recovered VM: overlays on the served recovery point, firmware variables, TPM state. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RecoverTask } from '#/control/orders.ts';
import { Failure } from '#/lib/failure.ts';
import { createOverlay } from './qcow2-overlay.ts';
import type { RecoveryState } from './recovery-state.ts';
import { unpackTpmState } from './tpm-state.ts';

/** Where libvirt looks for what it does not take a path for. */
export type FirmwarePaths = {
  /** Holds one directory of TPM state for each VM, by its UUID. */
  tpmDirectory: string;
};

const DEFINITION_BYTES_MAX = 1024 * 1024;
const NVRAM_BYTES_MAX = 64 * 1024 * 1024;
const TPM_BYTES_MAX = 64 * 1024 * 1024;

export async function readDefinition(task: RecoverTask): Promise<string> {
  const place = { kind: 'definition', file: 'definition.xml' };
  const bytes = await readAttachment(task, place, DEFINITION_BYTES_MAX);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new Failure('usage_invalid', `recover ${task.name}: its definition is no text`, { cause: error });
  }
}

/**
 * Makes one empty qcow2 for each disk, backed by the recovery point. Only before the VM's first start: what an
 * earlier try left is made anew.
 */
export async function makeOverlays(task: RecoverTask, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o711 });
  await Promise.all(
    task.view.disks.map(async (disk) => {
      const path = join(directory, `${disk.key}.qcow2`);
      await rm(path, { force: true });
      const backing = {
        driver: 'raw',
        file: {
          driver: 'nbd',
          export: disk.export_name,
          server: { type: 'unix', path: task.view.socket_path },
        },
      };
      await createOverlay(path, disk.bytes, { name: `json:${JSON.stringify(backing)}`, format: 'raw' });
    }),
  );
}

/** Puts firmware variables and TPM state where the adapted definition and libvirt look for them. */
export async function restoreFirmware(
  task: RecoverTask,
  state: RecoveryState,
  paths: FirmwarePaths,
): Promise<void> {
  const kinds = new Set(task.view.attachments.map((attachment) => attachment.kind));
  if (kinds.has('nvram')) {
    const variables = await readAttachment(task, { kind: 'nvram', file: 'nvram' }, NVRAM_BYTES_MAX);
    await mkdir(state.directory, { recursive: true, mode: 0o711 });
    await writeFile(join(state.directory, 'nvram'), variables, { mode: 0o600 });
  }
  if (!kinds.has('tpm')) return;
  const packed = await readAttachment(task, { kind: 'tpm', file: 'tpm' }, TPM_BYTES_MAX);
  // libvirt gives files that it finds there to the user that the software TPM runs as.
  const target = join(paths.tpmDirectory, state.uuid);
  await rm(target, { recursive: true, force: true });
  await unpackTpmState(packed, target);
}

/** Removes all files of a recovery. */
export async function removeFiles(state: RecoveryState, paths: FirmwarePaths): Promise<void> {
  await rm(state.directory, { recursive: true, force: true });
  if (state.hasTpm) await rm(join(paths.tpmDirectory, state.uuid), { recursive: true, force: true });
}

/** The attachment's bytes, which are those that the recovery point names by their hash. */
async function readAttachment(
  task: RecoverTask,
  { kind, file }: { kind: string; file: string },
  bytesMax: number,
): Promise<Uint8Array> {
  const path = join(task.view.attachments_path, file);
  let bytes: Uint8Array;
  try {
    bytes = await readBounded(path, bytesMax);
  } catch (error) {
    throw new Failure(
      'storage_io',
      `recover ${task.name}: read ${path}, which belongs to the recovery point`,
      {
        cause: error,
        hint: 'The replication server must run on the host that recovers, since both share these files.',
      },
    );
  }
  const wanted = task.view.attachments.find((attachment) => attachment.kind === kind)?.sha256;
  if (createHash('sha256').update(bytes).digest('hex') === wanted) return bytes;
  throw new Failure('storage_corrupt', `recover ${task.name}: ${path} is not what the recovery point names`);
}

/** Never more than that, whatever the file grows to, and no directory, device or pipe. */
async function readBounded(path: string, bytesMax: number): Promise<Uint8Array> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const about = await file.stat();
  if (!about.isFile()) throw new Failure('usage_invalid', 'it is no file');
  if (about.size > bytesMax) {
    throw new Failure('limit_exceeded', `it has ${about.size} bytes, more than ${bytesMax}`);
  }
  const bytes = new Uint8Array(about.size);
  const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
  return bytes.subarray(0, bytesRead);
}
