/**
 * Reports on disk: `run-reports/ID/` in the manager's data directory, with the report as JSON, page and PDF, and
 * `signatures.json`. Beside the database, so that losing that loses none.
 *
 * Invariant: a directory has its name once everything in it is durable; one of another name means nothing. There are
 * REPORTS_MAX at most: the oldest go.
 */
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Check } from 'typebox/value';
import { ReportSummary } from '#/api/run-reports.ts';
import { Failure } from '#/lib/failure.ts';
import { REPORTS_MAX } from '#/manager/limits.ts';

const ID = /^[0-9a-z][0-9a-z-]{0,63}$/;
const SUMMARY = 'summary.json';
export const REPORT_FILES = {
  'report.html': 'text/html; charset=utf-8',
  'report.pdf': 'application/pdf',
  'report.json': 'application/json; charset=utf-8',
} as const;
export type ReportFileName = keyof typeof REPORT_FILES;

export class ReportStore {
  readonly #directory: string;
  #summaries: Map<string, ReportSummary> | undefined;

  constructor(dataDirectory: string) {
    this.#directory = join(dataDirectory, 'run-reports');
  }

  /** The newest first. */
  async list(): Promise<ReportSummary[]> {
    const summaries = await this.#load();
    return [...summaries.values()].toSorted((a, b) => b.ended_ms - a.ended_ms);
  }

  async find(id: string): Promise<ReportSummary | undefined> {
    return (await this.#load()).get(id);
  }

  /** Throws not_found. */
  async read(id: string, name: ReportFileName): Promise<Buffer> {
    if ((await this.find(id)) === undefined) {
      throw new Failure('not_found', `there is no report ${id}`, {
        hint: 'List them with: antipode report list',
      });
    }
    return this.#try(`read ${name} of report ${id}`, () => readFile(join(this.#directory, id, name)));
  }

  async put(summary: ReportSummary, files: Readonly<Record<ReportFileName, Buffer>>): Promise<void> {
    const summaries = await this.#load();
    const target = join(this.#directory, summary.id);
    const beside = `${target}.new`;
    await this.#try(`write report ${summary.id}`, async () => {
      await rm(beside, { recursive: true, force: true });
      await mkdir(beside, { mode: 0o700 });
      const all = { ...files, [SUMMARY]: Buffer.from(`${JSON.stringify(summary)}\n`) };
      for (const [name, bytes] of Object.entries(all)) await writeSynced(join(beside, name), bytes);
      await sync(beside);
      await rm(target, { recursive: true, force: true });
      await rename(beside, target);
      await sync(this.#directory);
    });
    summaries.set(summary.id, summary);
    for (const { id } of (await this.list()).slice(REPORTS_MAX)) {
      await this.#try(`remove report ${id}`, () =>
        rm(join(this.#directory, id), { recursive: true, force: true }),
      );
      summaries.delete(id);
    }
  }

  async #load(): Promise<Map<string, ReportSummary>> {
    if (this.#summaries !== undefined) return this.#summaries;
    const summaries = new Map<string, ReportSummary>();
    await this.#try('read the reports', async () => {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      for (const name of await readdir(this.#directory)) {
        const path = join(this.#directory, name);
        if (!ID.test(name)) await rm(path, { recursive: true, force: true });
        else {
          const value = await readJson(join(path, SUMMARY));
          // A person may have changed it; the files are theirs to look at then.
          if (Check(ReportSummary, value) && value.id === name) summaries.set(name, value);
        }
      }
    });
    return (this.#summaries = summaries);
  }

  async #try<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const isFull = (error as NodeJS.ErrnoException).code === 'ENOSPC';
      throw new Failure(isFull ? 'storage_full' : 'storage_io', what, { cause: error });
    }
  }
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function writeSynced(path: string, bytes: Buffer): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.writeFile(bytes);
  await file.datasync();
}

async function sync(path: string): Promise<void> {
  await using directory = await open(path, 'r');
  await directory.sync();
}
