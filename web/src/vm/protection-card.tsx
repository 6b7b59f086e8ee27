/** One direction in which a VM is replicated: what is promised, how it stands, what stands in the way. */
import {
  Card,
  CardBody,
  CardTitle,
  DescriptionList,
  DescriptionListDescription,
  DescriptionListGroup,
  DescriptionListTerm,
} from '@patternfly/react-core';
import { useState, type ReactNode } from 'react';
import type { Protection, VmRow, VmStatus } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { bytes, moment, plural, setSpan, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { ActionButton } from '#/shared/action-button.tsx';
import { AgeBar } from '#/shared/age-bar.tsx';
import { retentionText } from '#/shared/retention.ts';
import { canChange, canReprotect, canUnprotect } from '#/shared/what-may-be-done.ts';
import { ChangeDialog } from './change-dialog.tsx';
import { ReprotectDialog } from './reprotect-dialog.tsx';
import { UnprotectDialog } from './unprotect-dialog.tsx';

export function ProtectionCard({ row, status }: { row: VmRow; status: VmStatus }) {
  const nowMs = useNow();
  const isHere = status.role === 'protected';
  const protection = useCall('GET /api/v1/protections/{id}', ['site'], {
    params: { id: status.protection_id ?? '' },
    isEnabled: isHere && status.protection_id !== null,
  });
  const replica = useCall('GET /api/v1/replicas/{id}', ['reports', 'site'], {
    params: { id: status.replica_id ?? '' },
    isEnabled: !isHere && status.replica_id !== null,
  });
  const retention = protection.data?.retention ?? replica.data?.retention;
  const lines: [string, ReactNode][] = [
    ['Age', <AgeBar key="age" status={status} />],
    ['RPO', setSpan(status.rpo_ms)],
    ['State', stateText(status, nowMs)],
    ...lateLine(status, nowMs),
    ...(row.change_bytes_per_s === null
      ? []
      : [['Changes', `${bytes(row.change_bytes_per_s)}/s`] as [string, ReactNode]]),
    ...(retention === undefined ? [] : [['Points kept', retentionText(retention)] as [string, ReactNode]]),
    ...(replica.data === undefined
      ? []
      : [
          [
            'Replica',
            `${plural(replica.data.point_count, 'point')} in ${bytes(replica.data.stored_bytes)}`,
          ] as [string, ReactNode],
        ]),
  ];
  return (
    <Card isFullHeight>
      <CardTitle component="h2">
        {status.protected_site} → {status.recovery_site}
      </CardTitle>
      <CardBody>
        <DescriptionList isHorizontal isCompact>
          {lines.map(([term, text]) => (
            <DescriptionListGroup key={term}>
              <DescriptionListTerm>{term}</DescriptionListTerm>
              <DescriptionListDescription>{text}</DescriptionListDescription>
            </DescriptionListGroup>
          ))}
        </DescriptionList>
        {status.failure !== null && (
          <p className="icon-error">
            {status.failure.message} {status.failure.hint}
          </p>
        )}
        {status.notices.map((notice) => (
          <p key={notice} className="subtle">
            {notice}
          </p>
        ))}
        <ProtectionActions status={status} protection={protection.data} />
      </CardBody>
    </Card>
  );
}

function ProtectionActions(props: { status: VmStatus; protection: Protection | undefined }) {
  const { protection, status } = props;
  const [asked, setAsked] = useState<'change' | 'unprotect' | 'reprotect'>();
  const close = () => setAsked(undefined);
  return (
    <p className="card-actions">
      {status.role === 'protected' && (
        <ActionButton name="Change…" whyNot={canChange(status)} onClick={() => setAsked('change')} />
      )}
      {status.role === 'protected' && (
        <ActionButton
          name="Stop protecting…"
          variant="link"
          whyNot={canUnprotect(status)}
          onClick={() => setAsked('unprotect')}
        />
      )}
      {status.role === 'recovery' && status.state === 'recovered' && (
        <ActionButton
          name="Reprotect…"
          variant="primary"
          whyNot={canReprotect(status)}
          onClick={() => setAsked('reprotect')}
        />
      )}
      {asked === 'reprotect' && <ReprotectDialog status={status} onClose={close} />}
      {asked === 'change' && protection !== undefined && (
        <ChangeDialog protection={protection} onClose={close} />
      )}
      {asked === 'unprotect' && <UnprotectDialog status={status} onClose={close} />}
    </p>
  );
}

function lateLine({ rpo, violated_since_ms: sinceMs }: VmStatus, nowMs: number): [string, ReactNode][] {
  if (sinceMs === null || rpo !== 'violated') return [];
  return [['Late since', `${moment(sinceMs, nowMs)} (${span(nowMs - sinceMs)})`]];
}

function stateText(status: VmStatus, nowMs: number): string {
  if (status.unknown_since_ms !== null) return `unknown for ${span(nowMs - status.unknown_since_ms)}`;
  const { progress, state } = status;
  if (progress === null || progress.total_bytes === 0) return state.replaceAll('_', ' ');
  return `${state.replaceAll('_', ' ')}, ${Math.floor((100 * progress.done_bytes) / progress.total_bytes)} %`;
}
