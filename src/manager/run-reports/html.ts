/**
 * A report as a page that stands alone: no scripts, nothing loaded from anywhere.
 *
 * Invariant: guests, peers and people choose names and messages, so every text is escaped where it is put in.
 */
import type { ReportStep, ReportVm, RunReport } from '#/api/run-reports.ts';
import { stepRow, summary, title, vmFacts } from './words.ts';

const STYLE = `body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.6em}h2{margin-top:2em;border-bottom:1px solid #ccc}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.2em .6em .2em 0;overflow-wrap:anywhere}
.steps td{border-top:1px solid #eee;font-size:.9em}.steps td:nth-child(-n+2){white-space:nowrap}
.failed{color:#a00}.passed{color:#060}img{max-width:100%;border:1px solid #ccc;margin-top:1em}`;
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

export function htmlOf(report: RunReport): string {
  const heading = escape(title(report));
  const warnings = report.warnings.map((warning) => `<li>${escape(warning)}</li>`);
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<title>${heading}</title><style>${STYLE}</style></head><body>
<h1 class="${report.outcome}">${heading}</h1>
${facts(summary(report))}
${warnings.length === 0 ? '' : `<h2>Warnings</h2><ul>${warnings.join('')}</ul>`}
${report.steps.length === 0 ? '' : `<h2>Steps</h2>${steps(report.steps, report.started_ms)}`}
${report.vms.map((vm) => section(vm, report.started_ms)).join('\n')}
</body></html>
`;
}

function section(vm: ReportVm, startedMs: number): string {
  const picture =
    vm.picture === null
      ? `<p>No picture of its screen: ${escape(vm.picture_failure ?? 'none was taken')}</p>`
      : `<img alt="Screen of ${escape(vm.name)}" src="data:image/png;base64,${base64(vm.picture)}">`;
  const rank = vm.priority === null ? '' : `, priority ${vm.priority}`;
  return `<h2>${escape(vm.vm_name)}${rank}</h2>
${facts(vmFacts(vm))}
${steps(vm.steps, startedMs)}
${picture}`;
}

function facts(rows: readonly [string, string][]): string {
  const all = rows.map(([name, value]) => `<tr><th>${escape(name)}</th><td>${escape(value)}</td></tr>`);
  return `<table>${all.join('')}</table>`;
}

function steps(all: readonly ReportStep[], startedMs: number): string {
  const rows = all.map((step) => {
    const cells = stepRow(step, startedMs).map((text) => `<td>${escape(text)}</td>`);
    return `<tr${step.state === 'failed' ? ' class="failed"' : ''}>${cells.join('')}</tr>`;
  });
  return `<table class="steps">${rows.join('\n')}</table>`;
}

export function escape(text: string): string {
  const names: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return text.replaceAll(/[&<>"']/g, (character) => names[character]!);
}

/** It stands in an attribute. */
function base64(text: string): string {
  return text.replaceAll(/[^A-Za-z0-9+/=]/g, '');
}
