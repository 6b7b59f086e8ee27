/** The signed report of a run or a recovery, with its pictures, once it is written. */
import { Card, CardBody, CardTitle } from '@patternfly/react-core';
import { useCall } from '#/api/use-call.ts';
import { bytes } from '#/lib/format.ts';
import { ReportPictures } from './report-pictures.tsx';

export function ReportLinks({ id }: { id: string }) {
  const { data } = useCall('GET /api/v1/reports', ['events']);
  const report = (data?.items ?? []).find((known) => known.id === id);
  if (report === undefined) return null;
  return (
    <Card>
      <CardTitle component="h2">Report</CardTitle>
      <CardBody>
        <ReportPictures key={report.ended_ms} id={report.id} />
        <ReportFiles id={report.id} files={report.files} />
      </CardBody>
    </Card>
  );
}

export function ReportFiles({
  files,
  id,
}: {
  id: string;
  files: readonly { name: string; bytes: number }[];
}) {
  return (
    <>
      {files.map((file) => (
        <a
          key={file.name}
          className="report-file"
          href={`/api/v1/reports/${encodeURIComponent(id)}/files/${encodeURIComponent(file.name)}`}
          download={`${id}-${file.name}`}
        >
          {file.name} ({bytes(file.bytes)})
        </a>
      ))}
    </>
  );
}
