/**
 * Writes a report of each recovery, test and plan run that has come to its end, or is up: with a picture of the screen,
 * signed by the site's authority.
 *
 * Invariant: a report that is there is not written again, so what it says is how it was then; what is missing after a
 * crash is written after it.
 */
import { createHash } from 'node:crypto';
import { Check } from 'typebox/value';
import type { ReportFile, ReportSummary, ReportVm, RunReport } from '#/api/run-reports.ts';
import type { RunView } from '#/api/runs.ts';
import { PictureResult } from '#/control/picture-task.ts';
import { failureIn } from '#/lib/failure.ts';
import { failureFields } from '#/lib/log.ts';
import { reportText } from '#/lib/report-signature.ts';
import type { Context } from '#/manager/context.ts';
import { PICTURE_WAIT_MS, REPORTS_LOOK_EVERY_MS } from '#/manager/limits.ts';
import type { Recoveries } from '#/manager/recoveries.ts';
import { recoverTaskId } from '#/manager/recovery-tasks.ts';
import { jobIds } from '#/manager/runs/execute/recover.ts';
import type { Runs } from '#/manager/runs/runs.ts';
import { findJob, listJobs, type Job } from '#/manager/store/job-store.ts';
import { listReplicas } from '#/manager/store/replica-store.ts';
import { addTask, dropTask, findTask } from '#/manager/store/task-store.ts';
import { htmlOf } from './html.ts';
import { pdfOf } from './pdf.ts';
import { isReportable, planReport } from './plan-report.ts';
import { vmReport, type VmPart } from './recovery-report.ts';
import { readFonts } from './report-fonts-disk.ts';
import { ReportStore, type ReportFileName } from './report-store.ts';
import type { TrueTypeFont } from './true-type.ts';

/** Recoveries that are looked at: what ended while the manager was down for long may be without a report. */
const JOBS_MAX = 100;
const UP_OR_OVER = ['ready', 'done', 'failed'];
const RUNS_MAX = 50;
const BEYOND_LATIN = /[^\0-\xff]/;
/** Recoveries of a run have its id in theirs, and are in its report. */
const OF_RUN = /^job-[0-9a-f]{12}-/;

export class RunReports {
  readonly store: ReportStore;
  readonly #context: Context;
  readonly #recoveries: Recoveries;
  readonly #runs: Runs;
  #fonts: readonly TrueTypeFont[] | undefined;
  #lookedMs = -Infinity;

  constructor(context: Context, recoveries: Recoveries, runs: Runs) {
    this.#context = context;
    this.#recoveries = recoveries;
    this.#runs = runs;
    this.store = new ReportStore(context.config.dataDirectory);
  }

  /** Called often; looks every few seconds. */
  async look(nowMs = this.#context.clock.monotonicMs()): Promise<void> {
    const { clock, db } = this.#context;
    if (nowMs - this.#lookedMs < REPORTS_LOOK_EVERY_MS) return;
    this.#lookedMs = nowMs;
    for (const job of await listJobs(db, JOBS_MAX, clock.now() + 1)) {
      if (!UP_OR_OVER.includes(job.state) || OF_RUN.test(job.id)) continue;
      if ((await this.store.find(job.id)) === undefined) await this.#try(job.id, () => this.#write(job));
    }
    for (const run of await this.#runs.list(RUNS_MAX, clock.now() + 1)) {
      if (!isReportable(run)) continue;
      const written = await this.store.find(run.id);
      // One that failed, was resumed, and came to a good end after all.
      const isBetter = written?.outcome === 'failed' && run.state === 'done';
      if (written === undefined || isBetter) await this.#try(run.id, () => this.#writeRun(run.id));
    }
  }

  async #try(id: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      // A full disk holds up no recovery; it is tried again.
      if (failureIn(error) === undefined) throw error;
      this.#context.log.warning('report.failed', { id, ...failureFields(error) });
    }
  }

  async #writeRun(id: string): Promise<void> {
    const { config, identity } = this.#context;
    const run = await this.#runs.show(id);
    const jobs = await this.#jobsOf(run);
    const pictures = new Map<string, VmPart['picture']>();
    for (const job of jobs) {
      const picture = await this.#picture(job);
      if (picture !== undefined) pictures.set(job.id, picture);
    }
    // All of them are ordered by now; they are waited for together.
    if (pictures.size < jobs.length) return;
    const vms: ReportVm[] = [];
    for (const job of jobs) vms.push(await this.#vmOf(job, pictures.get(job.id)!, run.created_ms));
    const site = { site_id: identity.siteId, site_name: config.siteName };
    await this.#finish(planReport(run, site, vms), jobs);
  }

  /** The newest recovery of each VM. */
  async #jobsOf(run: RunView): Promise<Job[]> {
    const jobs: Job[] = [];
    for (const step of run.steps ?? []) {
      const [id] = step.kind === 'recover' ? jobIds(run.id, step) : [];
      const job = id === undefined ? undefined : await findJob(this.#context.db, id);
      if (job !== undefined) jobs.push(job);
    }
    return jobs;
  }

  async #write(job: Job): Promise<void> {
    const { config, identity } = this.#context;
    const picture = await this.#picture(job);
    if (picture === undefined) return;
    const vm = await this.#vmOf(job, picture, job.created_ms);
    const report: RunReport = {
      version: 1,
      id: job.id,
      site_id: identity.siteId,
      site_name: config.siteName,
      kind: job.request.purpose,
      plan: null,
      started_by: null,
      outcome: job.state === 'failed' ? 'failed' : 'passed',
      started_ms: job.created_ms,
      ended_ms: Math.max(job.updated_ms, job.created_ms),
      failure: job.failure?.message ?? null,
      warnings: [],
      vms: [vm],
      steps: [],
    };
    await this.#finish(report, [job]);
  }

  async #vmOf(job: Job, picture: VmPart['picture'], startedMs: number): Promise<ReportVm> {
    const { db, inventory } = this.#context;
    const replica = (await listReplicas(db)).find(({ id }) => id === job.replica_id);
    return vmReport({
      view: await this.#recoveries.view(job),
      vmUuid: replica?.vm_uuid ?? '',
      hostName: inventory.agent(job.request.host_id)?.name ?? job.request.host_id,
      priority: null,
      wantedRpoMs: replica?.rpo_ms ?? null,
      picture,
      startedMs,
    });
  }

  async #finish(report: RunReport, jobs: readonly Job[]): Promise<void> {
    const { db, events } = this.#context;
    await this.keep(report);
    for (const job of jobs) await dropTask(db, pictureTaskId(job.id));
    const what = report.plan ?? report.vms[0]?.vm_name ?? '';
    await events.record(db, {
      kind: 'report.written',
      severity: report.outcome === 'failed' ? 'warning' : 'info',
      subject: { kind: 'report', id: report.id },
      message: `the report of ${report.kind} ${report.id} of ${what} was written: ${report.outcome}`,
    });
  }

  /** Signs and keeps it. */
  async keep(report: RunReport): Promise<ReportSummary> {
    const { authority } = this.#context;
    const json = JSON.stringify(report, undefined, 2);
    const files: Record<ReportFileName, Buffer> = {
      'report.html': Buffer.from(htmlOf(report)),
      'report.pdf': await this.#pdf(report, BEYOND_LATIN.test(json)),
      'report.json': Buffer.from(`${json}\n`),
    };
    const signed: ReportFile[] = [];
    for (const [name, bytes] of Object.entries(files)) {
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      const signature = await authority.signText(reportText({ reportId: report.id, name, sha256 }));
      signed.push({ name, bytes: bytes.length, sha256, signature });
    }
    const { id, site_id, kind, plan, outcome, started_ms, ended_ms } = report;
    const vms = report.vms.map((vm) => vm.vm_name);
    const summary = { id, site_id, kind, plan, vms, outcome, started_ms, ended_ms, files: signed };
    await this.store.put(summary, files);
    return summary;
  }

  /** Fonts are read when a report first needs them. A font that is not what it seems costs the report its glyphs. */
  async #pdf(report: RunReport, needsFonts: boolean): Promise<Buffer> {
    if (!needsFonts) return pdfOf(report);
    const { config, log } = this.#context;
    this.#fonts ??= await readFonts(config.reportFontsDirectory, log);
    try {
      return pdfOf(report, this.#fonts);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      log.warning('report.font', failureFields(error));
      return pdfOf(report);
    }
  }

  /** Undefined while it is being taken. */
  async #picture(job: Job): Promise<VmPart['picture'] | undefined> {
    const { changes, clock, db } = this.#context;
    const id = pictureTaskId(job.id);
    const task = await findTask(db, id);
    if (task === undefined) {
      const hasVm = job.steps.some(({ name }) => name === 'recover');
      if (!hasVm) return { failure: 'the recovery ended before its VM was there' };
      if (job.request.start === false) return { failure: 'it was left off' };
      if (job.state === 'cleaning' || job.state === 'cleaned')
        return { failure: 'its VM was removed already' };
      const body = { id, kind: 'picture' as const, recover_task_id: recoverTaskId(job.id) };
      const row = { id, member_id: job.request.host_id, job_id: null, body, created_ms: clock.now() };
      await addTask(db, row);
      changes.notify('orders');
      return undefined;
    }
    if (task.state === 'done' && Check(PictureResult, task.report?.result)) return task.report.result;
    if (task.state === 'failed')
      return { failure: task.report?.failure?.message ?? 'its host has not said why' };
    if (clock.now() - task.created_ms < PICTURE_WAIT_MS && task.state !== 'done') return undefined;
    return { failure: 'its host has not sent one in time' };
  }
}

function pictureTaskId(jobId: string): string {
  return `${jobId}-picture`;
}
