/** Errors of the operating system about files, as Failures with the codes that `file-system.ts` promises. */
import { Failure, type FailureCode } from '#/lib/failure.ts';

const CODES: Record<string, FailureCode> = {
  ENOENT: 'not_found',
  EEXIST: 'already_exists',
  ENOSPC: 'storage_full',
  EDQUOT: 'storage_full',
  EFBIG: 'storage_full',
};

/** Runs `operation`; what it throws becomes a Failure that says `doing`. */
export async function asStorage<T>(doing: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    const code = (cause as NodeJS.ErrnoException).code;
    throw new Failure((code === undefined ? undefined : CODES[code]) ?? 'storage_io', doing, { cause });
  }
}
