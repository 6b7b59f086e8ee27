/** The recovery points of a VM: choose a moment, then test or recover it. */
import {
  Button,
  Card,
  CardBody,
  CardHeader,
  CardTitle,
  Flex,
  FlexItem,
  ToggleGroup,
  ToggleGroupItem,
} from '@patternfly/react-core';
import { useState } from 'react';
import { useSearchParams } from 'react-router';
import type { Point, VmRow, VmStatus } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { bytes, exact, moment, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { RecoverDialog, type Purpose } from '#/recoveries/recover-dialog.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { canMigrate, canRecover, canTest } from '#/shared/what-may-be-done.ts';
import { BookmarkLabels, PointTools } from './point-tools.tsx';
import { within, zoom, type Span } from './timeline-scale.ts';
import { Timeline } from './timeline.tsx';
import { usePoints } from './use-points.ts';

const MINUTE_MS = 60_000;
const WINDOWS: readonly (readonly [name: string, ms: number | undefined])[] = [
  ['1 min', MINUTE_MS],
  ['10 min', 10 * MINUTE_MS],
  ['1 h', 60 * MINUTE_MS],
  ['1 d', 24 * 60 * MINUTE_MS],
  ['All', undefined],
];
/** Room to the right of now. */
const MARGIN = 0.02;
/** Of one press. */
const ZOOM_STEP = 2;

export function PointsCard({ row, status }: { row: VmRow; status: VmStatus }) {
  const { error, points } = usePoints(status.replica_id!);
  const replica = useCall('GET /api/v1/replicas/{id}', ['site', 'reports'], {
    params: { id: status.replica_id! },
  });
  // A replica that was filled from an old copy here is of a VM that has left this site: moving it is bringing it home.
  const seed = useCall('GET /api/v1/seeds/{vm}', ['site'], { params: { vm: status.replica_id! } });
  const isHome = seed.data !== undefined && seed.data.sequence !== null;
  const nowMs = useNow();
  const [search, setSearch] = useSearchParams();
  const [purpose, setPurpose] = useState<Purpose>();
  const [view, setView] = useState<{ seen: Span } | { lastMs: number | undefined }>({
    lastMs: 10 * MINUTE_MS,
  });
  const wanted = Number(search.get('point'));
  const newest = points.at(-1);
  // Without a choice it is the newest, whichever that is by then.
  const chosen = points.find((point) => point.sequence === wanted);
  const bounds = boundsOf(points, nowMs);
  const seen = 'seen' in view ? within(view.seen, bounds) : lastOf(bounds, nowMs, view.lastMs);
  const choose = (point: Point | undefined) => {
    setSearch(point === undefined ? {} : { point: String(point.sequence) }, { replace: true });
  };
  const shown = chosen ?? newest;
  return (
    <Card>
      <CardHeader
        actions={{
          actions: (
            <Windows
              lastMs={'lastMs' in view ? view.lastMs : null}
              onLast={(lastMs) => setView({ lastMs })}
              onZoom={(factor) => setView({ seen: zoom(seen, factor, middleOf(seen, shown), bounds) })}
            />
          ),
        }}
      >
        <CardTitle component="h2">Recovery points at {status.recovery_site}</CardTitle>
      </CardHeader>
      <CardBody>
        <ProblemAlert error={error} />
        <Timeline
          points={points}
          rpoMs={status.rpo_ms}
          keepAllMs={replica.data?.retention.keep_all_ms ?? 0}
          nowMs={nowMs}
          seen={seen}
          bounds={bounds}
          chosen={shown}
          onSee={(next) => setView({ seen: next })}
          bookmarks={replica.data?.bookmarks ?? []}
          onChoose={choose}
        />
        <BookmarkLabels
          replica={replica.data}
          onChoose={(sequence) => setSearch({ point: String(sequence) }, { replace: true })}
        />
        <Flex className="card-actions" alignItems={{ default: 'alignItemsCenter' }}>
          <FlexItem fullWidth={{ default: 'fullWidth' }} aria-live="off">
            {shown === undefined ? (
              <span className="subtle">There is no recovery point yet.</span>
            ) : (
              <ChosenText point={shown} isNewest={chosen === undefined} nowMs={nowMs} />
            )}
            {chosen !== undefined && (
              <Button variant="link" isInline onClick={() => choose(undefined)}>
                Back to the newest
              </Button>
            )}
          </FlexItem>
          <PointTools point={shown} replica={replica.data} />
          <FlexItem>
            <ActionButton
              name="Test…"
              variant="primary"
              whyNot={canTest(status)}
              onClick={() => setPurpose('test')}
            />
          </FlexItem>
          <FlexItem>
            <ActionButton
              name={isHome ? 'Fail back…' : 'Migrate…'}
              whyNot={canMigrate(status, chosen === undefined)}
              onClick={() => setPurpose('migration')}
            />
          </FlexItem>
          <FlexItem>
            <ActionButton
              name="Recover…"
              variant="danger"
              whyNot={canRecover(status)}
              onClick={() => setPurpose('recovery')}
            />
          </FlexItem>
        </Flex>
      </CardBody>
      {purpose !== undefined && (
        <RecoverDialog
          row={row}
          status={status}
          point={chosen}
          purpose={purpose}
          isHome={isHome}
          onClose={() => setPurpose(undefined)}
        />
      )}
    </Card>
  );
}

/** How much is seen; `lastMs` is null where somebody has zoomed, and undefined where it is all. */
function Windows(props: {
  lastMs: number | undefined | null;
  onLast: (lastMs: number | undefined) => void;
  onZoom: (factor: number) => void;
}) {
  const { lastMs, onLast, onZoom } = props;
  return (
    <>
      <ToggleGroup isCompact aria-label="How much is seen">
        {WINDOWS.map(([name, ms]) => (
          <ToggleGroupItem key={name} text={name} isSelected={lastMs === ms} onChange={() => onLast(ms)} />
        ))}
      </ToggleGroup>
      <Button variant="control" size="sm" aria-label="Zoom in" onClick={() => onZoom(1 / ZOOM_STEP)}>
        +
      </Button>
      <Button variant="control" size="sm" aria-label="Zoom out" onClick={() => onZoom(ZOOM_STEP)}>
        −
      </Button>
    </>
  );
}

/** The chosen point stays where it is, if it is seen. */
function middleOf(seen: Span, shown: Point | undefined): number {
  const ms = shown?.moment_ms ?? 0;
  return ms >= seen.fromMs && ms <= seen.toMs ? ms : (seen.fromMs + seen.toMs) / 2;
}

function ChosenText({ point, isNewest, nowMs }: { point: Point; isNewest: boolean; nowMs: number }) {
  return (
    <span className="number" title={exact(point.moment_ms)}>
      {isNewest ? 'Newest: ' : ''}
      <strong>{moment(point.moment_ms, nowMs)}</strong>, {span(Math.max(0, nowMs - point.moment_ms))} ago ·
      point {point.sequence} · {bytes(point.delta_bytes)} changed ·{' '}
      {point.consistency === 'off' ? 'powered off' : `${point.consistency} consistent`}{' '}
    </span>
  );
}

function boundsOf(points: readonly Point[], nowMs: number): Span {
  const fromMs = points[0]?.moment_ms ?? nowMs - 10 * MINUTE_MS;
  const widthMs = Math.max(MINUTE_MS, nowMs - fromMs);
  return { fromMs: nowMs - widthMs * (1 + MARGIN), toMs: nowMs + widthMs * MARGIN };
}

function lastOf(bounds: Span, nowMs: number, lastMs: number | undefined): Span {
  if (lastMs === undefined) return bounds;
  const toMs = nowMs + lastMs * MARGIN;
  return within({ fromMs: toMs - lastMs, toMs }, bounds);
}
