/** Tries what a replica needs of its file system, on one small file in a directory of its own that is removed again. */
import { mkdtemp, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { digestMemory } from '#/disk/digest-memory.ts';
import { DirectWrites } from '#/disk/direct-writes.ts';
import { outputOf, textIfThere } from './gather-shared.ts';
import type { StoreFacts } from './judge-site.ts';

const MIB = 1024 ** 2;
/** Where the file's second piece is: a file without holes would be so long on disk. */
const FAR = 64 * MIB;
const BLOCK_BYTES = 512;

export async function gatherStore(store: string, signal: AbortSignal): Promise<StoreFacts> {
  const directory = await mkdtemp(join(store, '.doctor-'));
  try {
    const path = join(directory, 'file');
    const tried = await tryFile(path);
    const punched = await outputOf('fallocate', ['-p', '-o', '0', '-l', `${MIB}`, path], signal).then(
      (said) => (said === undefined ? undefined : true),
      () => false,
    );
    return { ...tried, punchesHoles: punched, fileSystem: await fileSystemOf(store) };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function tryFile(path: string): Promise<Omit<StoreFacts, 'fileSystem' | 'punchesHoles'>> {
  const beside = `${path}.new`;
  const beganMs = performance.now();
  await using file = await open(beside, 'wx+', 0o600);
  const bytes = digestMemory(MIB);
  bytes.fill(1);
  await using direct = new DirectWrites(file.fd);
  const writesDirectly = await direct.tryWrite(0, bytes);
  if (!writesDirectly) await file.write(bytes, 0, bytes.length, 0);
  await file.write(bytes, 0, BLOCK_BYTES, FAR);
  await file.datasync();
  await rename(beside, path);
  await using directory = await open(dirname(path), 'r');
  await directory.sync();
  const syncMs = performance.now() - beganMs;
  const { blocks } = await stat(path);
  return { syncMs, writesDirectly, isSparse: blocks * BLOCK_BYTES < FAR / 2 };
}

/** Of the mount that the path is on: the longest that it begins with. */
async function fileSystemOf(path: string): Promise<string> {
  const lines = ((await textIfThere('/proc/self/mounts')) ?? '').split('\n');
  const found = lines
    .map((line) => line.split(' '))
    .filter(([, at]) => at !== undefined && (at === '/' || path === at || path.startsWith(`${at}/`)))
    .toSorted((one, other) => one[1]!.length - other[1]!.length)
    .at(-1);
  return found?.[2] ?? 'an unknown file system';
}
