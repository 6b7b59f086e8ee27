/** What an image says of itself: its chain of files, its bitmaps. Asked of qemu-img, without locks. */
import { stat } from 'node:fs/promises';
import { Failure } from '#/lib/failure.ts';
import { runTool } from './run-tool.ts';

/** libvirt allows no longer chain. */
const CHAIN_MAX = 200;

export type ImageFacts = {
  /** The image and those below it, nearest first. */
  files: string[];
  /** Names of bitmaps that were closed cleanly and record ever since they were made. */
  usableBitmaps: string[];
};

/** Throws tool_failed. */
export async function readImageFacts(path: string, signal: AbortSignal): Promise<ImageFacts> {
  const options = ['--force-share', '--output=json', '--backing-chain', '-f', 'qcow2'];
  const output = await runTool('qemu-img', ['info', ...options, path], signal);
  const chain = JSON.parse(output) as unknown;
  if (!Array.isArray(chain) || chain.length === 0 || chain.length > CHAIN_MAX) {
    throw new Failure('tool_failed', `read the chain of ${path}: qemu-img told none`);
  }
  const images = chain as ImageInfo[];
  return {
    files: images.map(({ filename }) => filename ?? '').filter((name) => name.startsWith('/')),
    usableBitmaps: (images[0]?.['format-specific']?.data?.bitmaps ?? [])
      .filter(isUsable)
      .map(({ name }) => name),
  };
}

type Bitmap = { name: string; flags: string[] };
type ImageInfo = { filename?: string; 'format-specific'?: { data?: { bitmaps?: Bitmap[] } } };

/** `in-use` was not closed: QEMU was killed. Without `auto` it stopped recording at some time. */
function isUsable({ flags }: Bitmap): boolean {
  return !flags.includes('in-use') && flags.includes('auto');
}

/** Changes whenever a file is written, replaced or resized. */
export async function fingerprint(files: readonly string[]): Promise<string> {
  const facts = await Promise.all(
    files.map(async (path) => {
      const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
      return [path, dev, ino, size, mtimeNs, ctimeNs].join(' ');
    }),
  );
  return facts.join('\n');
}
