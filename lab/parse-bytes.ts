/** Amounts of bytes as people write them: "64M", "2G", "4096". Powers of 1024, as in qemu-img. */
import { Failure } from '#/lib/failure.ts';

const SCALE: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

export function parseBytes(text: string): number {
  const match = /^(\d{1,12})([kmgt]?)(?:i?b)?$/i.exec(text);
  const bytes = Number(match?.[1]) * (SCALE[(match?.[2] ?? '').toLowerCase()] ?? Number.NaN);
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new Failure('usage_invalid', `"${text}" is no amount of bytes`, {
    hint: 'Write it like 64M, 2G or 4096.',
  });
}
