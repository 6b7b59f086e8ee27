/** Reports of recoveries and runs. */
import { Type } from 'typebox';
import { closed, Name, pageOf, PageQuery } from '#/api/common.ts';
import { ReportAuthority, ReportPicture, ReportSummary } from '#/api/run-reports.ts';
import { Failure } from '#/lib/failure.ts';
import { pictureOf, picturesOf } from '#/manager/run-reports/pictures.ts';
import { REPORT_FILES, type ReportFileName } from '#/manager/run-reports/report-store.ts';
import { Answer, route, type Route } from './route.ts';
import { DOCUMENT_POLICY } from './security-headers.ts';
import { page } from './views.ts';

const roles = ['person'] as const;
const tag = 'reports';

export const REPORT_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/reports',
    roles,
    tag,
    summary: 'Reports of recoveries, tests and runs, the newest first',
    query: PageQuery,
    reply: pageOf(ReportSummary),
    handle: async ({ query }, { reports }) => page(await reports.store.list(), query),
  }),
  route({
    method: 'GET',
    path: '/api/v1/reports/:id',
    roles,
    tag,
    summary: 'One report: its outcome, its files and their signatures',
    params: Type.Object({ id: Name }, closed),
    reply: ReportSummary,
    handle: async ({ params }, { reports }) => {
      const found = await reports.store.find(params.id);
      if (found !== undefined) return found;
      throw new Failure('not_found', `there is no report ${params.id}`, {
        hint: 'List them with: antipode report list',
      });
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/reports/:id/files/:file',
    roles,
    tag,
    summary: 'A file of a report: report.html, report.pdf, or report.json',
    params: Type.Object({ id: Name, file: Name }, closed),
    handle: async ({ params }, { reports }) => {
      const { file, id } = params;
      if (!isReportFile(file)) throw new Failure('not_found', `a report has no file ${file}`);
      const policy = { 'content-security-policy': DOCUMENT_POLICY };
      return new Answer(200, await reports.store.read(id, file), REPORT_FILES[file], policy);
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/reports/:id/pictures',
    roles,
    tag,
    summary: 'Of which VMs of a report there are pictures of their screens, and why not of the others',
    params: Type.Object({ id: Name }, closed),
    reply: Type.Object({ items: Type.Array(ReportPicture) }, closed),
    handle: async ({ params }, { reports }) => ({ items: await picturesOf(reports.store, params.id) }),
  }),
  route({
    method: 'GET',
    path: '/api/v1/reports/:id/pictures/:picture',
    roles,
    tag,
    summary: 'A picture of a screen (PNG)',
    params: Type.Object({ id: Name, picture: Type.String({ pattern: '^\\d{1,5}$' }) }, closed),
    handle: async ({ headers, params }, { reports }) => {
      const { png, tag: etag } = await pictureOf(reports.store, params.id, Number(params.picture));
      // It does not change, but who may see it does: a browser asks each time, and is answered in a line.
      const kept = { etag, 'cache-control': 'private, no-cache', 'content-security-policy': DOCUMENT_POLICY };
      if (headers['if-none-match'] === etag) return new Answer(304, undefined, 'image/png', kept);
      return new Answer(200, png, 'image/png', kept);
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/report-authority',
    roles,
    tag,
    summary: "The site's authority, whose key signs reports",
    reply: ReportAuthority,
    handle: async (_input, { context: { authority, config, identity } }) => ({
      site_id: identity.siteId,
      site_name: config.siteName,
      ca_pem: authority.caPem,
    }),
  }),
];

function isReportFile(name: string): name is ReportFileName {
  return Object.hasOwn(REPORT_FILES, name);
}
