/** Runs test files with Node's runner and says one line for each file, and everything about each failure. */
import { join } from 'node:path';
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

/** The planted bugs take minutes on two idle cores, and CI may have busy ones. */
const FILE_LIMIT_MS = 1_500_000;
/** What a failed file may have printed is shown up to this; its end tells most. */
const OUTPUT_CHARACTERS_MAX = 16_384;

/** Counts are added to `total`. */
export async function runTestFile(root: string, file: string, total: Tally): Promise<void> {
  const record: FileRecord = { passed: 0, failed: 0, skipped: [], output: '', failures: [] };
  const path = join(root, file);
  let end = { durationMs: 0, success: false };
  const stream = run({ cwd: root, files: [path], timeout: FILE_LIMIT_MS });
  stream.on('test:stdout', ({ message }) => keep(record, message));
  stream.on('test:stderr', ({ message }) => keep(record, message));
  stream.on('test:pass', (event) => {
    if (event.details.type === 'suite') return;
    if (event.skip !== undefined || event.todo !== undefined) record.skipped.push(event.name);
    else record.passed++;
  });
  stream.on('test:fail', (event) => {
    // A suite fails because of what is in it, which is counted already; a subtest's parent likewise.
    if (event.details.error.cause === undefined || isOfChildren(event.details.error)) return;
    record.failed++;
    record.failures.push(`${event.name} (line ${event.line ?? '?'})\n${indent(reason(event.details.error))}`);
  });
  // A file that dies before its tests do has no summary of its own.
  stream.on('test:summary', ({ file: of, duration_ms: durationMs, success }) => {
    if (of === path) end = { durationMs, success };
  });
  for await (const _ of stream);
  sayFile(file, record, end);
  total.passed += record.passed;
  total.failed += record.failed;
  total.skipped.push(...record.skipped.map((test) => `${file}: ${test}`));
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
