/** The files of a recovered VM: overlays on the served recovery point, firmware variables, TPM state. */
import { copyFile, mkdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { RecoverTask } from '#/control/orders.ts';
import { Failure } from '#/lib/failure.ts';
import type { RecoveryState } from './recovery-state.ts';
import { runTool } from './run-tool.ts';
import { unpackTpmState } from './tpm-state.ts';

/** Where libvirt looks for what it does not take a path for. */
export type FirmwarePaths = {
  /** Holds one directory of TPM state for each VM, by its UUID. */
  tpmDirectory: string;
};

const DEFINITION_BYTES_MAX = 1024 * 1024;
const TPM_BYTES_MAX = 64 * 1024 * 1024;

export async function readDefinition(task: RecoverTask): Promise<string> {
  const bytes = await readAttachment(task, 'definition.xml', DEFINITION_BYTES_MAX);
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
}

/**
 * Makes one empty qcow2 for each disk, backed by the recovery point. Only before the VM's first start: what an
 * earlier try left is made anew.
 */
export async function makeOverlays(task: RecoverTask, directory: string, signal: AbortSignal): Promise<void> {
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
      const size = String(disk.bytes);
      const options = [
        '-q',
        '-u',
        '-f',
        'qcow2',
        '-o',
        'compat=1.1',
        '-F',
        'raw',
        '-b',
        `json:${JSON.stringify(backing)}`,
      ];
      await runTool('qemu-img', ['create', ...options, path, size], signal);
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
    await mkdir(state.directory, { recursive: true, mode: 0o711 });
    await copyFile(join(task.view.attachments_path, 'nvram'), join(state.directory, 'nvram'));
  }
  if (!kinds.has('tpm')) return;
  const target = join(paths.tpmDirectory, state.uuid);
  await rm(target, { recursive: true, force: true });
  await unpackTpmState(await readAttachment(task, 'tpm', TPM_BYTES_MAX), target);
}

/** Removes all files of a recovery. */
export async function removeFiles(state: RecoveryState, paths: FirmwarePaths): Promise<void> {
  await rm(state.directory, { recursive: true, force: true });
  if (state.network !== null)
    await rm(join(paths.tpmDirectory, state.uuid), { recursive: true, force: true });
}

async function readAttachment(task: RecoverTask, name: string, bytesMax: number): Promise<Uint8Array> {
  const path = join(task.view.attachments_path, name);
  try {
    const { size } = await stat(path);
    if (size > bytesMax) throw new Failure('limit_exceeded', `it has ${size} bytes, more than ${bytesMax}`);
    return await readFile(path);
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
}
