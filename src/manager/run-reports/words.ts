/** The sentences of a report, shared by its page and its PDF. Pure. */
import type { ReportStep, ReportVm, RunReport } from '#/api/run-reports.ts';

const KINDS = {
  test: 'Test',
  recovery: 'Recovery',
  migration: 'Planned migration',
  disaster: 'Disaster recovery',
  failback: 'Failback',
} as const;

export function title(report: RunReport): string {
  const what = report.plan === null ? (report.vms[0]?.vm_name ?? '') : `plan ${report.plan}`;
  return `${KINDS[report.kind]} of ${what}: ${report.outcome}`;
}

export function summary(report: RunReport): [string, string][] {
  const worst = (values: readonly (number | null)[]): string =>
    values.length > 0 && values.every((value) => value !== null) ? span(Math.max(...values)) : 'not measured';
  return [
    ['Site', report.site_name],
    ['Run', report.id],
    ...(report.started_by === null ? [] : [['Started by', report.started_by] as [string, string]]),
    ['Began', time(report.started_ms)],
    ['Ended', time(report.ended_ms)],
    ['Took', span(report.ended_ms - report.started_ms)],
    ['Measured RPO', `${worst(report.vms.map((vm) => vm.rpo_ms))} (age of the oldest recovery point used)`],
    ['Measured RTO', `${worst(report.vms.map((vm) => vm.rto_ms))} (the last VM's sign of life)`],
    ...(report.failure === null ? [] : [['Failure', report.failure] as [string, string]]),
  ];
}

export function vmFacts(vm: ReportVm): [string, string][] {
  const moment = vm.moment_ms === null ? 'not known' : time(vm.moment_ms);
  const wanted = vm.wanted_rpo_ms === null ? '' : `, of ${span(vm.wanted_rpo_ms)} wanted`;
  return [
    ['State', vm.state],
    ['Came up as', `${vm.name} on ${vm.host_name}`],
    ['Recovery point', vm.point === null ? 'none' : `${vm.point}, of ${moment}`],
    ['RPO', vm.rpo_ms === null ? 'not measured' : `${span(vm.rpo_ms)}${wanted}`],
    ['RTO', vm.rto_ms === null ? 'no sign of life' : span(vm.rto_ms)],
    ...(vm.failure === null ? [] : [['Failure', vm.failure] as [string, string]]),
    ...(vm.hint === null ? [] : [['What to do', vm.hint] as [string, string]]),
  ];
}

/** When, counted from the beginning of the run; how long; what; what came of it. */
export function stepRow(step: ReportStep, startedMs: number): [string, string, string, string] {
  const began = step.started_ms === null ? '' : `+${span(step.started_ms - startedMs)}`;
  const took =
    step.started_ms === null || step.ended_ms === null ? '' : span(step.ended_ms - step.started_ms);
  return [began, took, step.name, step.failure ?? step.note ?? step.state];
}

export function time(ms: number): string {
  return new Date(ms).toISOString().replace('T', ' ').replace('Z', ' UTC');
}

export function span(ms: number): string {
  if (ms < 10_000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 120) return `${minutes} min ${Math.floor((ms % 60_000) / 1000)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
