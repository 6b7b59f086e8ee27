/** Runs test files with Node's runner and says one line for each file, and everything about each failure. */
import { join, relative } from 'node:path';
import { run } from 'node:test';
import { inspect } from 'node:util';

export interface Tally {
  passed: number;
  failed: number;
  /** Names, since a skipped test is to be seen. */
  skipped: string[];
}

interface FileRecord extends Tally {
  output: string;
  failures: string[];
}

export interface RunOptions {
  readonly concurrency: number;
  /** Counts are added here. */
  readonly total: Tally;
}

/** The planted bugs take minutes on two idle cores, and CI may have busy ones. */
const FILE_LIMIT_MS = 2_400_000;
/** What a failed file may have printed is shown up to this; its end tells most. */
const OUTPUT_CHARACTERS_MAX = 16_384;

export async function runTestFiles(
  root: string,
  files: readonly string[],
  options: RunOptions,
): Promise<void> {
  if (files.length === 0) return;
  const records = new Map<string, FileRecord>();
  const recordOf = (path: string | undefined): FileRecord => {
    const name = relative(root, path ?? join(root, 'unknown file'));
    const record = records.get(name) ?? { passed: 0, failed: 0, skipped: [], output: '', failures: [] };
    records.set(name, record);
    return record;
  };
  const ended = new Set<string>();
  const stream = run({
    cwd: root,
    files: files.map((file) => join(root, file)),
    concurrency: options.concurrency,
    timeout: FILE_LIMIT_MS,
  });
  stream.on('test:stdout', ({ file, message }) => keep(recordOf(file), message));
  stream.on('test:stderr', ({ file, message }) => keep(recordOf(file), message));
  stream.on('test:pass', (event) => {
    if (event.details.type === 'suite') return;
    const record = recordOf(event.file);
    if (event.skip !== undefined || event.todo !== undefined) record.skipped.push(event.name);
    else record.passed++;
  });
  stream.on('test:fail', (event) => {
    // A suite fails because of what is in it, which is counted already; a subtest's parent likewise.
    if (event.details.error.cause === undefined || isOfChildren(event.details.error)) return;
    const record = recordOf(event.file);
    record.failed++;
    record.failures.push(`${event.name} (line ${event.line ?? '?'})\n${indent(reason(event.details.error))}`);
  });
  stream.on('test:summary', ({ file, duration_ms: durationMs, success }) => {
    if (file === undefined) return;
    ended.add(relative(root, file));
    sayFile(relative(root, file), recordOf(file), { durationMs, success });
  });
  for await (const _ of stream);
  // A file that dies before its tests do has no summary of its own.
  for (const file of files.filter((name) => !ended.has(name))) {
    sayFile(file, recordOf(join(root, file)), { durationMs: 0, success: false });
  }
  for (const [name, record] of records) {
    options.total.passed += record.passed;
    options.total.failed += record.failed;
    options.total.skipped.push(...record.skipped.map((test) => `${name}: ${test}`));
  }
}

function isOfChildren(error: Error): boolean {
  return (error as { failureType?: string }).failureType === 'subtestsFailed';
}

function keep(record: FileRecord, message: string): void {
  record.output = (record.output + message).slice(-OUTPUT_CHARACTERS_MAX);
}

function reason(error: Error): string {
  const { cause } = error;
  return cause instanceof Error ? (cause.stack ?? cause.message) + details(cause) : inspect(cause ?? error);
}

/** A Failure's chain of causes says more than where it was thrown. */
function details(error: Error): string {
  return error.cause === undefined ? '' : `\ncaused by: ${inspect(error.cause, { depth: 4 })}`;
}

function sayFile(name: string, record: FileRecord, end: { durationMs: number; success: boolean }): void {
  const isGood = end.success && record.failed === 0;
  // A file that ends badly without a failed test did so outside of its tests.
  if (!end.success && record.failed === 0) {
    record.failed++;
    record.failures.push('the file itself failed; its output follows');
  }
  const counts = [`${record.passed} passed`];
  if (record.failed > 0) counts.push(`${record.failed} failed`);
  if (record.skipped.length > 0) counts.push(`${record.skipped.length} skipped`);
  const lines = [
    `${isGood ? 'ok  ' : 'FAIL'} ${name}: ${counts.join(', ')} (${Math.round(end.durationMs)} ms)`,
  ];
  lines.push(...record.failures.map(indent));
  if (!isGood && record.output.trim() !== '') lines.push(indent(`--- it printed\n${record.output.trim()}`));
  process.stdout.write(`${lines.join('\n')}\n`);
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, '     ');
}
