/** Paths of a FileSystem: components joined by `/`, never out of the root. */
import { Failure } from '#/lib/failure.ts';

/**
 * Throws `usage_invalid` unless `path` is names joined by `/`. The empty path is the root itself and allowed only
 * where a directory is meant.
 */
export function checkRelativePath(path: string, what: 'file' | 'directory'): void {
  if (path === '' && what === 'directory') return;
  for (const name of path.split('/')) {
    if (
      name === '' ||
      name === '.' ||
      name === '..' ||
      name.includes('\0') ||
      Buffer.byteLength(name) > 255
    ) {
      throw new Failure('usage_invalid', `use the path ${JSON.stringify(path)} below a file system's root`);
    }
  }
}
