/** The newest events, of one subject or of all. */
import { useCall } from '#/api/use-call.ts';
import { exact, moment } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { Link } from 'react-router';
import { addressOf } from '#/addresses.ts';

export function EventList({
  subject,
  limit,
  severities,
}: {
  subject?: string;
  limit: number;
  severities?: readonly string[];
}) {
  const { data } = useCall('GET /api/v1/events', ['events'], {
    query: { limit, ...(subject === undefined ? {} : { subject }) },
  });
  const nowMs = useNow();
  const events = (data?.items ?? []).filter(
    (event) => severities === undefined || severities.includes(event.severity),
  );
  if (data !== undefined && events.length === 0) return <p className="subtle">Nothing has happened.</p>;
  return (
    <ol className="event-list">
      {events.toReversed().map((event) => {
        const address = subject === undefined ? addressOf(event.subject.kind, event.subject.id) : undefined;
        return (
          <li key={event.sequence}>
            <span className={`dot dot-event-${event.severity}`} role="img" aria-label={event.severity} />
            <time className="number subtle" dateTime={exact(event.at_ms)} title={exact(event.at_ms)}>
              {moment(event.at_ms, nowMs)}
            </time>
            <span>{address === undefined ? event.message : <Link to={address}>{event.message}</Link>}</span>
          </li>
        );
      })}
    </ol>
  );
}
