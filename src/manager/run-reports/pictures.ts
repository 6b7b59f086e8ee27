/** The pictures of screens that a report has, one by one: a page shows them without loading the report. */
import { createHash } from 'node:crypto';
import { Check } from 'typebox/value';
import { RunReport, type ReportPicture } from '#/api/run-reports.ts';
import { Failure } from '#/lib/failure.ts';
import type { ReportStore } from './report-store.ts';

/** Throws not_found. */
export async function picturesOf(store: ReportStore, id: string): Promise<ReportPicture[]> {
  const { vms } = await reportOf(store, id);
  return vms.map(({ name, picture, picture_failure, vm_uuid }, index) => ({
    picture: index,
    vm_uuid,
    name,
    failure: picture === null ? (picture_failure ?? 'none was taken') : null,
  }));
}

/** A PNG, as the host has sent it, and what names these very bytes (RFC 9110, section 8.8.3). Throws not_found. */
export async function pictureOf(
  store: ReportStore,
  id: string,
  index: number,
): Promise<{ png: Buffer; tag: string }> {
  const picture = (await reportOf(store, id)).vms[index]?.picture ?? null;
  if (picture === null) throw new Failure('not_found', `report ${id} has no picture ${index}`);
  const png = Buffer.from(picture, 'base64');
  return { png, tag: `"${createHash('sha256').update(png).digest('hex').slice(0, 32)}"` };
}

async function reportOf(store: ReportStore, id: string): Promise<RunReport> {
  const report: unknown = JSON.parse((await store.read(id, 'report.json')).toString());
  if (Check(RunReport, report)) return report;
  throw new Failure('storage_corrupt', `report ${id} is not in a form that is known here`);
}
