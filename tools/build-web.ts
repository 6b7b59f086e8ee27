/**
 * Builds the web page into web/dist: first the types of the API from the routes' schemas, then the bundle.
 *
 * `--types` makes only the types, which an editor and the compiler want. Nothing is downloaded: fonts and icons are
 * files of the locked packages, and every one of them becomes a file of its own, since the page's policy admits no
 * inline resources.
 */
import { mkdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { build, type InlineConfig } from 'vite';
import { openApiDocument } from '#/manager/http/openapi-document.ts';
import { ROUTES } from '#/manager/http/routes.ts';
import { apiTypes, type OpenApiDocument } from './api-types.ts';

const WEB = join(import.meta.dirname, '../web');
const TYPES = join(WEB, 'src/api/generated/api.ts');
const DIST = join(WEB, 'dist');
const NEW_DIST = join(WEB, 'dist.new');

export const viteConfig: InlineConfig = {
  root: WEB,
  configFile: false,
  logLevel: 'warn',
  build: {
    outDir: NEW_DIST,
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 2000,
    target: 'es2023',
    // Directives for servers that draw React, of which there is none here; and where the build spends its time.
    rolldownOptions: { checks: { moduleLevelDirective: false, pluginTimings: false, bundlerTimings: false } },
  },
};

async function writeTypes(): Promise<void> {
  const text = apiTypes((await openApiDocument(ROUTES)) as OpenApiDocument);
  const before = await readFile(TYPES, 'utf8').catch(() => undefined);
  // A file that did not change stays as old as it is.
  if (text === before) return;
  await mkdir(dirname(TYPES), { recursive: true });
  await writeFile(TYPES, text);
}

async function main(): Promise<void> {
  const startMs = performance.now();
  const began = new Date();
  await writeTypes();
  if (process.argv.includes('--types')) return;
  await build(viteConfig);
  const stamp = join(NEW_DIST, '.built');
  await writeFile(stamp, '');
  // What changes during the build is newer than what was built of it.
  await utimes(stamp, began, began);
  await rm(DIST, { recursive: true, force: true });
  await rename(NEW_DIST, DIST);
  process.stdout.write(`built the web page in ${((performance.now() - startMs) / 1000).toFixed(1)} s\n`);
}

await main();
