/** audit: who did what, and whether the record of it is whole. */
import type { Command } from 'commander';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { AuditChain, type AuditRow, type AuditVerification } from '#/api/audit.ts';
import { Failure } from '#/lib/failure.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { countIn, time } from './duration.ts';
import { table } from './table.ts';

const AT_ONCE = 1000;

export function registerAuditCommands(program: Command): void {
  const audit = program
    .command('audit')
    .description('what people did: who, from where, why, and what came of it');
  const list = withManager(
    audit
      .command('list', { isDefault: true })
      .description('newest first; the word list may be left out')
      .option('--limit <count>', 'at most so many', '50'),
  ).action(async (options: CommonOptions & { limit: string }) => {
    const api = await managerOf(options);
    const query = new URLSearchParams({ limit: String(countIn('--limit', options.limit)) });
    const { items } = await api.get<{ items: AuditRow[] }>(`/audit?${query.toString()}`);
    if (options.json === true) return printJson(items);
    const rows = items.map((one) => [
      time(one.at_ms),
      one.actor,
      one.address,
      one.outcome,
      one.action,
      one.subject,
      one.reason ?? '',
    ]);
    print(table(['TIME', 'WHO', 'FROM', 'OUTCOME', 'ACTION', 'SUBJECT', 'REASON'], rows, 'nothing yet'));
  });
  examples(list, ['antipode audit --limit 10']);
  const exporting = withManager(
    audit
      .command('export')
      .description('all rows in the database, as JSON lines with their hashes; older ones are in archives')
      .option('--after <sequence>', 'only those after this row'),
  ).action(exportRows);
  examples(exporting, [
    'antipode audit export > audit.jsonl',
    'antipode audit export --after 12000 >> audit.jsonl',
  ]);
  const verify = withManager(
    audit
      .command('verify')
      .description('whether every row is there and as it was written: in the database, or in exported files')
      .argument(
        '[files...]',
        'exports or archives, in their order; without one, the database and its archives',
      ),
  ).action((files: string[], options: CommonOptions) =>
    files.length === 0 ? verifyDatabase(options) : verifyFiles(files, options),
  );
  examples(verify, ['antipode audit verify', 'antipode audit verify audit.jsonl']);
}

async function exportRows(options: CommonOptions & { after?: string }): Promise<void> {
  const api = await managerOf(options);
  let after = options.after === undefined ? 0 : countIn('--after', options.after);
  for (;;) {
    const query = new URLSearchParams({ after: String(after), limit: String(AT_ONCE) });
    const { items } = await api.get<{ items: AuditRow[] }>(`/audit/rows?${query.toString()}`);
    for (const row of items) print(JSON.stringify(row));
    if (items.length < AT_ONCE) return;
    after = items.at(-1)!.sequence;
  }
}

async function verifyDatabase(options: CommonOptions): Promise<void> {
  const api = await managerOf(options);
  const found = await api.get<AuditVerification>('/audit/verification');
  if (options.json === true) printJson(found);
  else {
    const inArchives =
      found.archives.length === 0 ? '' : `, the older ones in ${found.archives.length} archives`;
    print(`${found.last_sequence} rows${inArchives}; the last hash is ${found.last_hash}`);
    for (const { file, manager_id: id, state } of found.archives) {
      if (state === 'elsewhere') say(`archive ${file} is on the machine of manager ${id}: verify it there`);
    }
  }
  if (!found.is_whole) throw broken(found.problems);
}

async function verifyFiles(files: readonly string[], options: CommonOptions): Promise<void> {
  const chain = new AuditChain();
  const problems: string[] = [];
  let count = 0;
  for (const file of files) {
    for await (const line of createInterface({ input: createReadStream(file), crlfDelay: Infinity })) {
      count++;
      const problem = chain.next(rowIn(line, file, count));
      if (problem !== undefined && problems.length < 20) problems.push(problem);
    }
  }
  const verified = {
    is_whole: problems.length === 0,
    problems,
    row_count: count,
    last_sequence: chain.sequence ?? 0,
    last_hash: chain.hash ?? null,
  };
  if (options.json === true) printJson(verified);
  else
    print(
      `${count} rows; the last is row ${verified.last_sequence} with hash ${verified.last_hash ?? 'none'}`,
    );
  if (problems.length > 0) throw broken(problems);
}

function rowIn(line: string, file: string, number: number): AuditRow {
  try {
    return JSON.parse(line) as AuditRow;
  } catch (error) {
    throw new Failure('storage_corrupt', `read line ${number} of ${file}`, { cause: error });
  }
}

function broken(problems: readonly string[]): Failure {
  return new Failure('storage_corrupt', `the audit log is broken: ${problems.join('; ')}`, {
    hint: 'Compare it with an export, an archive or the log of the manager (audit.head) from before.',
  });
}
