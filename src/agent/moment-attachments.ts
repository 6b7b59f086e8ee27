/**
 * What a recovery point carries besides disks: the definition (without secrets such as console passwords), the
 * firmware's variables, the state of a software TPM (tpm-state.ts).
 */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { DomainDefinition } from '#/libvirt/domain-xml.ts';
import { Failure } from '#/lib/failure.ts';
import { ATTACHMENT_BYTES_MAX } from '#/replication/limits.ts';
import type { MomentAttachment } from '#/replication/source.ts';
import { packTpmState } from './tpm-state.ts';

/** `xml` is the definition that the VM has at its next start. */
export async function momentAttachments(
  xml: string,
  definition: DomainDefinition,
  tpmDirectory: string,
): Promise<MomentAttachment[]> {
  const attachments = [attachment('definition', new TextEncoder().encode(xml))];
  const { nvramPath } = definition.firmware;
  if (nvramPath !== undefined) {
    const variables = await readWhole(nvramPath);
    if (variables !== undefined) attachments.push(attachment('nvram', variables));
  }
  if (definition.tpm?.backend === 'emulator') {
    const state = await packTpmState(join(tpmDirectory, definition.uuid));
    if (state !== undefined) attachments.push(attachment('tpm', state));
  }
  return attachments;
}

function attachment(kind: MomentAttachment['kind'], bytes: Uint8Array): MomentAttachment {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { kind, sha256, bytes: bytes.length, read: () => Promise.resolve(bytes) };
}

/** Undefined when there is none yet: libvirt makes the file at the VM's first start. */
async function readWhole(path: string): Promise<Uint8Array | undefined> {
  try {
    const { size } = await stat(path);
    if (size > ATTACHMENT_BYTES_MAX) {
      throw new Failure(
        'limit_exceeded',
        `read ${path}: ${size} bytes are more than firmware variables take`,
      );
    }
    return await readFile(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error instanceof Failure ? error : new Failure('storage_io', `read ${path}`, { cause: error });
  }
}
