/** The machine's fonts for what Latin-1 has not: those of a directory that an administrator names, or Debian's. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { failureFields, type Log } from '#/lib/log.ts';
import { TrueTypeFont } from './true-type.ts';

/** Of the packages fonts-dejavu-core and fonts-droid-fallback. The first that has a character counts. */
const DEBIAN = [
  '/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf',
  '/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf',
  '/usr/share/fonts-droid-fallback/truetype/DroidSansFallback.ttf',
];
/** They are held in memory once a report has needed them. */
const FONTS_MAX = 8;
const FONT_BYTES_MAX = 32 * 1024 * 1024;

/** What is not there is left out; what is no font is, too, and said in the log. */
export async function readFonts(directory: string | null, log: Log): Promise<TrueTypeFont[]> {
  const fonts: TrueTypeFont[] = [];
  for (const path of directory === null ? DEBIAN : await fontsIn(directory, log)) {
    try {
      if ((await stat(path)).size > FONT_BYTES_MAX)
        throw new RangeError(`it has over ${FONT_BYTES_MAX} bytes`);
      fonts.push(
        new TrueTypeFont(
          await readFile(path),
          path
            .split('/')
            .at(-1)!
            .replace(/\.ttf$/, ''),
        ),
      );
    } catch (error) {
      const isAway = (error as NodeJS.ErrnoException).code === 'ENOENT';
      if (!isAway) log.warning('report.font', { path, ...failureFields(error) });
    }
  }
  return fonts;
}

async function fontsIn(directory: string, log: Log): Promise<string[]> {
  try {
    const names = (await readdir(directory)).filter((name) => name.endsWith('.ttf')).toSorted();
    return names.slice(0, FONTS_MAX).map((name) => join(directory, name));
  } catch (error) {
    log.warning('report.fonts', { path: directory, ...failureFields(error) });
    return [];
  }
}
