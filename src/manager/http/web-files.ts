/**
 * The files of the web page, as `./antipode` or the package built them, served from memory. What the page may load is
 * said with every answer (security-headers.ts): files of this manager and nothing else.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompress, constants } from 'node:zlib';
import { Failure } from '#/lib/failure.ts';
import { Answer } from './route.ts';

/** Where the build puts the page, beside the source of all programs. */
const DIRECTORY = join(import.meta.dirname, '../../../web/dist');
const PAGE = 'index.html';
const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.woff2': 'font/woff2',
  '.json': 'application/json; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
};
const IS_TEXT = /^text\/|svg|json/;
/** Names in assets/ carry a hash of the content. */
const FOR_EVER = 'public, max-age=31536000, immutable';

type WebFile = { bytes: Buffer; compressed: Promise<Buffer> | undefined; type: string };

export class WebFiles {
  readonly #directory: string;
  #files: Promise<Map<string, WebFile>> | undefined;

  constructor(directory = DIRECTORY) {
    this.#directory = directory;
  }

  /** The page itself, whatever its address: it finds by that what to show. */
  async page(acceptEncoding: string | string[] | undefined): Promise<Answer> {
    const files = await this.#all();
    const file = files.get(PAGE);
    if (file === undefined) return notBuilt();
    const etag = createHash('sha256').update(file.bytes).digest('base64url').slice(0, 24);
    return answer(file, acceptEncoding, { 'cache-control': 'no-cache', etag: `"${etag}"` });
  }

  /** Throws not_found. */
  async asset(name: string, acceptEncoding: string | string[] | undefined): Promise<Answer> {
    const file = (await this.#all()).get(`assets/${name}`);
    if (file === undefined) throw new Failure('not_found', `the web page has no file ${name}`);
    return answer(file, acceptEncoding, { 'cache-control': FOR_EVER });
  }

  #all(): Promise<Map<string, WebFile>> {
    // What is not there is looked for again: it may be built while the manager runs.
    this.#files ??= read(this.#directory).then((files) => {
      if (!files.has(PAGE)) this.#files = undefined;
      return files;
    });
    return this.#files;
  }
}

async function read(directory: string): Promise<Map<string, WebFile>> {
  const files = new Map<string, WebFile>();
  for (const name of await namesIn(directory)) {
    const bytes = await readFile(join(directory, name));
    const type = TYPES[extname(name)] ?? 'application/octet-stream';
    files.set(name, { bytes, compressed: undefined, type });
  }
  return files;
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

async function answer(
  file: WebFile,
  acceptEncoding: string | string[] | undefined,
  headers: Record<string, string>,
): Promise<Answer> {
  const all = { ...headers, vary: 'accept-encoding' };
  if (!IS_TEXT.test(file.type) || !/\bbr\b/.test(String(acceptEncoding ?? '')))
    return new Answer(200, file.bytes, file.type, all);
  file.compressed ??= compress(file.bytes);
  return new Answer(200, await file.compressed, file.type, { ...all, 'content-encoding': 'br' });
}

function compress(bytes: Buffer): Promise<Buffer> {
  // Once for each file and start; a higher quality takes seconds for a few percent.
  const params = { [constants.BROTLI_PARAM_QUALITY]: 5, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  return promisify(brotliCompress)(bytes, { params });
}

function notBuilt(): Answer {
  const text =
    'The web page of this manager has not been built. Build it with: ./antipode web\n' +
    'The API is there without it: /api\n';
  return new Answer(503, text, 'text/plain; charset=utf-8');
}
