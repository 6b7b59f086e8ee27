/** report: what recoveries, tests and runs came to, as signed files. */
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import type { Page } from '#/api/common.ts';
import type { ReportAuthority, ReportSummary } from '#/api/run-reports.ts';
import { Failure } from '#/lib/failure.ts';
import { reportText } from '#/lib/report-signature.ts';
import { isSignedBySite } from '#/lib/site-signature.ts';
import { examples, managerOf, print, printJson, withManager, type CommonOptions } from './command.ts';
import { duration, time } from './duration.ts';
import { table } from './table.ts';

/** Beside each file that is saved, named as the file with `.signature` appended. */
type SignatureFile = { report: string; file: string; site_id: string; sha256: string; signature: string };

export function registerReportCommands(program: Command): void {
  const report = program
    .command('report')
    .description(
      'reports of recoveries, tests and runs: what happened, what it lost and took, signed by the site',
    );
  registerLooks(report);
  registerSave(report);
  registerVerify(report);
}

function registerLooks(report: Command): void {
  const list = withManager(report.command('list').description('all reports, the newest first')).action(
    async (options: CommonOptions) => {
      const api = await managerOf(options);
      const page = await api.get<Page<ReportSummary>>('/reports');
      if (options.json === true) return printJson(page);
      const rows = page.items.map((one) => [
        one.id,
        one.kind,
        one.plan ?? '',
        one.vms.join(', '),
        one.outcome,
        time(one.started_ms),
        duration(one.ended_ms - one.started_ms),
      ]);
      print(table(['REPORT', 'KIND', 'PLAN', 'VMS', 'OUTCOME', 'BEGAN', 'TOOK'], rows, 'no report yet'));
    },
  );
  examples(list, ['antipode report list']);
  const show = withManager(
    report.command('show').description('one report, and its files').argument('<report>', "the report's id"),
  ).action(async (id: string, options: CommonOptions) => {
    const api = await managerOf(options);
    const summary = await api.get<ReportSummary>(`/reports/${encodeURIComponent(id)}`);
    if (options.json === true) return printJson(summary);
    print(`${summary.kind} ${summary.id} of ${summary.plan ?? summary.vms.join(', ')}: ${summary.outcome}`);
    print(`began ${time(summary.started_ms)}, took ${duration(summary.ended_ms - summary.started_ms)}`);
    const rows = summary.files.map((file) => [file.name, String(file.bytes), file.sha256]);
    print(table(['FILE', 'BYTES', 'SHA-256'], rows, ''));
    print(`Save them with: antipode report save ${summary.id} --to DIRECTORY`);
  });
  examples(show, ['antipode report show job-1f0c2b3a4d5e']);
}

function registerSave(report: Command): void {
  const save = withManager(
    report
      .command('save')
      .description('save the page, the PDF and the JSON of a report, each with its signature')
      .argument('<report>', "the report's id")
      .option('--to <directory>', 'made if it is not there', '.'),
  ).action(async (id: string, options: CommonOptions & { to: string }) => {
    const api = await managerOf(options);
    const at = `/reports/${encodeURIComponent(id)}`;
    const summary = await api.get<ReportSummary>(at);
    await mkdir(options.to, { recursive: true });
    const saved: string[] = [];
    for (const { name, sha256, signature } of summary.files) {
      const bytes = await api.bytes(`${at}/files/${name}`);
      const path = join(options.to, `${summary.id}-${basename(name)}`);
      const of: SignatureFile = {
        report: summary.id,
        file: name,
        site_id: summary.site_id,
        sha256,
        signature,
      };
      await writeFile(path, bytes);
      await writeFile(`${path}.signature`, `${JSON.stringify(of)}\n`);
      saved.push(path);
    }
    if (options.json === true) return printJson({ files: saved });
    for (const path of saved) print(path);
  });
  examples(save, ['antipode report save job-1f0c2b3a4d5e --to /srv/reports']);
}

function registerVerify(report: Command): void {
  const verify = withManager(
    report
      .command('verify')
      .description('whether a saved file is as the site has signed it; ends with 4 when it is not')
      .argument('<file>', 'with its signature beside it, in FILE.signature')
      .option('--authority <path>', "the site's ca.pem; without it the manager is asked"),
  ).action(async (path: string, options: CommonOptions & { authority?: string }) => {
    const bytes = await readInput(path);
    const signed = signatureIn((await readInput(`${path}.signature`)).toString(), path);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const caPem =
      options.authority === undefined
        ? (await (await managerOf(options)).get<ReportAuthority>('/report-authority')).ca_pem
        : (await readInput(options.authority)).toString();
    const text = reportText({ reportId: signed.report, name: signed.file, sha256 });
    if (!isSignedBySite(text, signed.signature, caPem)) {
      throw new Failure(
        'conflict',
        `${path} is not what the site signed as ${signed.file} of ${signed.report}`,
        {
          hint: 'It was changed, or is of another site: name the authority of that one with --authority.',
        },
      );
    }
    if (options.json === true) return printJson({ ...signed, is_valid: true });
    print(`${path} is ${signed.file} of report ${signed.report}, as site ${signed.site_id} signed it`);
  });
  examples(verify, [
    'antipode report verify job-1f0c2b3a4d5e-report.pdf',
    'antipode report verify job-1f0c2b3a4d5e-report.pdf --authority east-ca.pem',
  ]);
}

function signatureIn(text: string, path: string): SignatureFile {
  try {
    const value = JSON.parse(text) as Record<string, unknown>;
    const fields = ['report', 'file', 'site_id', 'sha256', 'signature'];
    if (fields.every((name) => typeof value[name] === 'string')) return value as SignatureFile;
  } catch (error) {
    throw new Failure('usage_invalid', `${path}.signature is no signature of a report`, { cause: error });
  }
  throw new Failure('usage_invalid', `${path}.signature is no signature of a report`);
}

async function readInput(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new Failure('usage_invalid', `read ${path}`, { cause: error });
  }
}
