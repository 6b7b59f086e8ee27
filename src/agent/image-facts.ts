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

export type Fingerprint = {
  /** Changes whenever a file is written, replaced or resized. */
  text: string;
  /**
   * True when the same text later proves that nothing was written in between: all files are regular ones, and none
   * was changed so shortly ago that another write could carry the same time.
   */
  isProof: boolean;
};

/** File times may be this coarse. */
const TIME_GRAIN_MS = 1000;

export async function fingerprint(files: readonly string[], nowMs: number): Promise<Fingerprint> {
  const facts = await Promise.all(
    files.map(async (path) => {
      const found = await stat(path, { bigint: true });
      const { dev, ino, size, mtimeNs, ctimeNs } = found;
      const changedMs = Number((mtimeNs > ctimeNs ? mtimeNs : ctimeNs) / 1_000_000n);
      const isProof = found.isFile() && changedMs < nowMs - TIME_GRAIN_MS;
      return { text: [path, dev, ino, size, mtimeNs, ctimeNs].join(' '), isProof };
    }),
  );
  const text = facts.map((fact) => fact.text).join('\n');
  return { text, isProof: facts.every(({ isProof }) => isProof) };
}
