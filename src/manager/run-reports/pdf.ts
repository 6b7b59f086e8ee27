/** A report as a PDF, with the same words as its page. */
import type { ReportStep, RunReport } from '#/api/run-reports.ts';
import { failureIn } from '#/lib/failure.ts';
import { readPng } from '#/lib/png.ts';
import { PdfDocument } from './pdf-document.ts';
import type { TrueTypeFont } from './true-type.ts';
import { stepRow, summary, title, vmFacts } from './words.ts';

const NAME_COLUMNS = 16;
const STEP_INDENT = 22;

export function pdfOf(report: RunReport, fonts: readonly TrueTypeFont[] = []): Buffer {
  const pdf = new PdfDocument(fonts);
  pdf.heading(title(report), 18);
  pdf.gap(6);
  facts(pdf, summary(report));
  if (report.warnings.length > 0) pdf.heading('Warnings', 13);
  for (const warning of report.warnings) pdf.paragraph(warning);
  if (report.steps.length > 0) pdf.heading('Steps', 13);
  steps(pdf, report.steps, report.started_ms);
  for (const vm of report.vms) {
    pdf.gap(8);
    pdf.heading(vm.priority === null ? vm.vm_name : `${vm.vm_name}, priority ${vm.priority}`, 13);
    facts(pdf, vmFacts(vm));
    pdf.gap(4);
    steps(pdf, vm.steps, report.started_ms);
    pdf.gap(4);
    if (vm.picture === null)
      pdf.paragraph(`No picture of its screen: ${vm.picture_failure ?? 'none was taken'}`);
    else addPicture(pdf, vm.picture);
  }
  return pdf.bytes(title(report));
}

function facts(pdf: PdfDocument, rows: readonly [string, string][]): void {
  for (const [name, value] of rows) pdf.paragraph(`${name}: ${value}`, 9, NAME_COLUMNS);
}

function steps(pdf: PdfDocument, all: readonly ReportStep[], startedMs: number): void {
  for (const step of all) {
    const [began, took, name, outcome] = stepRow(step, startedMs);
    pdf.paragraph(`${began} (${took === '' ? 'open' : took}) ${name}: ${outcome}`, 8, STEP_INDENT);
  }
}

function addPicture(pdf: PdfDocument, base64: string): void {
  try {
    pdf.picture(readPng(Buffer.from(base64, 'base64')));
  } catch (error) {
    const failure = failureIn(error);
    if (failure === undefined) throw error;
    pdf.paragraph(`No picture of its screen: ${failure.message}`);
  }
}
