/**
 * `antipode test [PATTERN...]`: everything that is checked, in the order of what it costs.
 *
 * Types, lint and form; then all *.test.ts; then a batch of the simulation with a fresh seed. With patterns
 * only the test files whose path contains one of them. The last line counts; a skipped test is counted and
 * named.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { join, relative } from 'node:path';
import { performance } from 'node:perf_hooks';
import { runTestFile, type Tally } from './test-reporter.ts';

const HELP = `usage: ./antipode test [PATTERN...]

Without a pattern: types, lint, form, all tests, and a minute of the simulation with a fresh seed. As root, since tests
make namespaces, libvirt daemons and guests of their own, and remove them.
With patterns: the test files whose path contains one of them.

  ./antipode test
  ./antipode test src/nbd lab/fence`;

const ROOT = join(import.meta.dirname, '..');
const FOLDERS = ['src', 'web/src', 'sim', 'lab', 'test', 'bench', 'tools'];
const BATCH_SECONDS = 60;
/** These run real guests, which under TCG take a processor each: never two of them at once. */
const IS_HEAVY = /^(lab|test)\//;

const tools = (name: string): string => join(ROOT, 'node_modules', '.bin', name);
const CHECKS: [name: string, argv: string[]][] = [
  ['types', [tools('tsc')]],
  ['types of the web page', [tools('tsc'), '-p', join(ROOT, 'web')]],
  ['lint', [tools('oxlint'), '--type-aware', '--quiet', ...FOLDERS]],
  ['form', [tools('oxfmt'), '--check', ...FOLDERS]],
];

const total: Tally = { passed: 0, failed: 0, skipped: [] };

async function main(patterns: readonly string[]): Promise<void> {
  const startMs = performance.now();
  const files = testFiles().filter(
    (file) => patterns.length === 0 || patterns.some((text) => file.includes(text)),
  );
  if (files.length === 0) {
    say(`no test file's path contains ${patterns.join(' or ')}`);
    process.exitCode = 2;
    return;
  }
  if (patterns.length === 0) for (const [name, argv] of CHECKS) await check(name, argv);
  heading('tests');
  await runAll(files);
  if (patterns.length === 0) {
    await check('simulation', [
      process.execPath,
      join(ROOT, 'sim/main.ts'),
      '--batch-seconds',
      String(BATCH_SECONDS),
    ]);
  }
  say('');
  for (const name of total.skipped) say(`skipped: ${name}`);
  say(`took ${Math.round((performance.now() - startMs) / 1000)} s`);
  say(`${total.passed} passed, ${total.failed} failed, ${total.skipped.length} skipped`);
  process.exitCode = total.failed === 0 ? 0 : 1;
}

/** Two at once suit the two cores that this must be quick on: a heavy one while there are any, beside a light one. */
async function runAll(files: readonly string[]): Promise<void> {
  const heavy = files.filter((file) => IS_HEAVY.test(file));
  const light = files.filter((file) => !IS_HEAVY.test(file));
  const lane = async (next: () => string | undefined): Promise<void> => {
    for (let file = next(); file !== undefined; file = next()) await runTestFile(ROOT, file, total);
  };
  await Promise.all([lane(() => heavy.shift() ?? light.shift()), lane(() => light.shift())]);
}

function testFiles(): string[] {
  const found = globSync(FOLDERS.map((folder) => join(ROOT, folder, '**/*.test.ts')));
  return found.map((path) => relative(ROOT, path)).toSorted();
}

/** Runs a program whose exit code is the verdict and whose output is for people. */
async function check(name: string, argv: readonly string[]): Promise<void> {
  heading(name);
  const startMs = performance.now();
  const child = spawn(argv[0]!, argv.slice(1), { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] });
  const code = await new Promise<number>((resolve) => {
    child.on('error', (error) => {
      say(error.message);
      resolve(-1);
    });
    child.on('exit', (exitCode) => resolve(exitCode ?? -1));
  });
  const isGood = code === 0;
  if (isGood) total.passed++;
  else total.failed++;
  say(`${isGood ? 'ok  ' : 'FAIL'} ${name} (${Math.round(performance.now() - startMs)} ms)`);
}

function heading(name: string): void {
  say(`\n--- ${name}`);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

const argv = process.argv.slice(2);
const option = argv.find((word) => word.startsWith('-'));
if (option === undefined) await main(argv);
else if (['-h', '--help'].includes(option)) say(HELP);
else {
  say(`antipode: test has no option ${option}\n\n${HELP}`);
  process.exitCode = 2;
}
