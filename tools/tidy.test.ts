/** Checks the shape of the source itself: which folder may import which, what a pure folder may touch, and form. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const CORE = ['lib', 'disk', 'nbd', 'libvirt', 'wire'];
/** The architecture. A folder of src/ may import itself and what its row names. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  lib: [],
  disk: ['lib'],
  nbd: ['disk', 'lib'],
  libvirt: ['lib'],
  wire: ['disk', 'lib'],
  replication: ['wire', 'disk', 'lib'],
  replica: ['wire', 'disk', 'lib'],
  control: ['lib'],
  api: ['lib'],
  recovery: ['libvirt', 'replica', 'disk', 'wire', 'lib'],
  agent: [...CORE, 'replication', 'recovery', 'control'],
  'replication-server': [...CORE, 'replica', 'control'],
  manager: ['lib', 'recovery', 'control', 'api'],
  operate: ['lib', 'disk', 'libvirt', 'agent', 'replication-server', 'manager'],
  cli: ['lib', 'api', 'replica', 'disk', 'operate'],
};
/** Packages that a folder may import; the core has none but the XML parser. */
const PACKAGES: Record<string, readonly string[]> = {
  libvirt: ['@xmldom/xmldom'],
  control: ['typebox', '@peculiar/x509', 'reflect-metadata'],
  api: ['typebox'],
  agent: ['pino', 'typebox', '@peculiar/x509'],
  'replication-server': ['pino', 'typebox', '@peculiar/x509'],
  manager: [
    'fastify',
    '@fastify/swagger',
    'typebox',
    'kysely',
    'openid-client',
    'nodemailer',
    'pg',
    '@peculiar/x509',
    'reflect-metadata',
    'pino',
    'prom-client',
    'ws',
  ],
  cli: ['commander', 'typebox', 'yaml'],
};
/** What the web page is made of. It knows the manager by its API alone; `#/` there is web/src. */
const WEB_PACKAGES = [
  '@novnc/novnc',
  '@patternfly/react-core',
  '@patternfly/react-icons',
  '@patternfly/react-styles',
  '@tanstack/react-query',
  '@tanstack/react-virtual',
  'react',
  'react-dom',
  'react-router',
  'yaml',
];
/** Folders the simulation runs: the same seed must give the same run, so nothing in them may see the outside world. */
const PURE = ['wire', 'replication', 'replica'];
const EDGE = /(-client|-server|-socket|-contract|-fixture|\.test)\.ts$/;
const PURE_MODULES = ['node:assert/strict', 'node:zlib', 'node:crypto'];
const IMPURE =
  /\bDate\.now|\bnew Date\(|\bMath\.random|\bsetTimeout|\bsetInterval|\bsetImmediate|\bprocess\.|\bperformance\./;
const COLUMNS_MAX = 120;
const LINES_MAX = 400;

const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  encoding: 'utf8',
});
const paths = tracked.split('\n').filter((path) => path !== '' && isThere(path));
const sources = paths.filter((path) => /\.tsx?$/.test(path));

for (const path of sources) {
  test(`${path} keeps to the architecture and the form`, () => {
    const text = readFileSync(path, 'utf8');
    checkForm(path, text);
    if (path.startsWith('src/')) checkImports(path, text);
    if (path.startsWith('web/')) checkWebImports(path, text);
  });
}

test('no file names a registry, a path of one machine, or carries a lock entry with a host', () => {
  const host = new RegExp(['registry', 'npmjs'].join('\\.') + '|' + ['deb', 'debian', 'org'].join('\\.'));
  for (const path of paths.filter((name) => /\.(ts|json|md|yml|sh)$|^antipode$|^\.ci\//.test(name))) {
    const text = readFileSync(path, 'utf8');
    assert(!host.test(text), `${path}: names a package registry's host`);
    assert(
      !/\/work\/(main|shared)/.test(text) || path === 'tools/tidy.test.ts',
      `${path}: path of one machine`,
    );
  }
});

function isThere(path: string): boolean {
  try {
    return readFileSync(path).length >= 0;
  } catch {
    return false;
  }
}

function checkForm(path: string, text: string): void {
  assert(
    /^(#!.*\n)?\/\*\*/.test(text) || path.endsWith('.test.ts'),
    `${path}: starts without a header comment`,
  );
  assert(!/\bfrom '\.\.\//.test(text), `${path}: import across folders with #/, not ../`);
  assert(!/^export default/m.test(text), `${path}: named exports only`);
  assert(!/^export \* from/m.test(text), `${path}: no barrels`);
  const lines = text.split('\n');
  assert(lines.length <= LINES_MAX + 1, `${path}: ${lines.length} lines, more than ${LINES_MAX}`);
  if (path.endsWith('.test.ts')) return;
  const long = lines.findIndex((line) => line.length > COLUMNS_MAX);
  assert.equal(long, -1, `${path}:${long + 1}: longer than ${COLUMNS_MAX} columns`);
}

function checkImports(path: string, text: string): void {
  const folder = path.split('/')[1]!;
  assert(folder in MAY_IMPORT, `src/${folder} has no row in MAY_IMPORT`);
  // A test, and what only tests import, may use whatever it needs to set the stage.
  const isStage = /(-contract|-fixture|\.test)\.ts$/.test(path);
  const isPure = PURE.includes(folder) && !EDGE.test(path);
  for (const [, specifier] of text.matchAll(/(?:from|import\() ?'([^']+)'/g)) {
    if (!isStage) checkImport(path, folder, specifier!);
    if (isPure && specifier!.startsWith('node:')) {
      assert(PURE_MODULES.includes(specifier!), `${path}: a pure folder imports ${specifier}`);
    }
  }
  if (!isPure) return;
  const impure = IMPURE.exec(text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, ''));
  assert(!impure, `${path}: must stay pure, uses ${impure?.[0]}`);
}

function checkWebImports(path: string, text: string): void {
  for (const [, specifier] of text.matchAll(/(?:from|import|import\() ?'([^']+)'/g)) {
    if (/^(\.\/|#\/)/.test(specifier!)) continue;
    if (path.endsWith('.test.ts') && specifier!.startsWith('node:')) continue;
    const name = /^(@[^/]+\/[^/]+|[^/]+)/.exec(specifier!)![1]!;
    assert(WEB_PACKAGES.includes(name), `${path}: the web page may not import ${specifier}`);
  }
}

function checkImport(path: string, folder: string, specifier: string): void {
  if (specifier.startsWith('./') || specifier.startsWith('node:')) return;
  const target = /^#\/([^/]+)\//.exec(specifier)?.[1];
  if (target !== undefined) {
    const allowed = target === folder || MAY_IMPORT[folder]!.includes(target);
    assert(allowed, `${path}: ${folder} may not import ${target}`);
    return;
  }
  const name = /^(@[^/]+\/[^/]+|[^/]+)/.exec(specifier)![1]!;
  assert((PACKAGES[folder] ?? []).includes(name), `${path}: ${folder} may not import the package ${name}`);
}
