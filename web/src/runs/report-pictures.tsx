/** The screens of a run's VMs as they were when its report was written, or why there is no picture of one. */
import { useCall } from '#/api/use-call.ts';

export function ReportPictures({ id }: { id: string }) {
  const { data } = useCall('GET /api/v1/reports/{id}/pictures', [], { params: { id } });
  return (
    <ul className="report-pictures">
      {(data?.items ?? []).map(({ failure, name, picture }) => (
        <li key={picture}>
          <figure>
            {failure === null ? (
              <img
                src={`/api/v1/reports/${encodeURIComponent(id)}/pictures/${picture}`}
                alt={`Screen of ${name}`}
                loading="lazy"
              />
            ) : (
              <p className="no-picture">No picture: {failure}</p>
            )}
            <figcaption>{name}</figcaption>
          </figure>
        </li>
      ))}
    </ul>
  );
}
