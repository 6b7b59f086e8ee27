/** What is wrong until it is not any more, and who has it in hand. */
import { Card, CardBody, CardTitle, Label, PageSection } from '@patternfly/react-core';
import { useState } from 'react';
import { Link } from 'react-router';
import { addressOf } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import type { Reply } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { moment, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { TextField } from '#/shared/text-field.tsx';

type Alarm = Reply<'GET /api/v1/alarms'>['items'][number];

export function AlarmsPage() {
  const { data, error } = useCall('GET /api/v1/alarms', ['events', 'reports', 'site']);
  const [taken, setTaken] = useState<Alarm>();
  const alarms = data?.items ?? [];
  return (
    <>
      <PageHead title="Alarms" />
      <PageSection hasBodyWrapper={false} isFilled className="stack">
        <ProblemAlert error={error} />
        <Card>
          <CardTitle component="h2">Now</CardTitle>
          <CardBody>
            <AlarmTable
              alarms={alarms.filter((alarm) => alarm.cleared_ms === null)}
              none="Nothing is wrong."
              onTake={setTaken}
            />
          </CardBody>
        </Card>
        <Card>
          <CardTitle component="h2">Over</CardTitle>
          <CardBody>
            <AlarmTable alarms={alarms.filter((alarm) => alarm.cleared_ms !== null)} none="None yet." />
          </CardBody>
        </Card>
        {taken !== undefined && <TakeDialog alarm={taken} onClose={() => setTaken(undefined)} />}
      </PageSection>
    </>
  );
}

function AlarmTable(props: { alarms: readonly Alarm[]; none: string; onTake?: (alarm: Alarm) => void }) {
  const { alarms, none, onTake } = props;
  const nowMs = useNow();
  return (
    <PlainTable
      columns={['Severity', 'What', 'Since', 'Lasts', 'In hand']}
      none={none}
      rows={alarms.map((alarm) => {
        const address = addressOf(alarm.subject.kind, alarm.subject.id);
        return [
          <Label
            key="severity"
            isCompact
            variant="outline"
            status={alarm.severity === 'critical' ? 'danger' : 'warning'}
          >
            {alarm.severity}
          </Label>,
          <span key="what">
            {address === undefined ? alarm.message : <Link to={address}>{alarm.message}</Link>}
            {alarm.hint !== null && <div className="subtle">{alarm.hint}</div>}
          </span>,
          moment(alarm.raised_ms, nowMs),
          span((alarm.cleared_ms ?? nowMs) - alarm.raised_ms),
          alarm.acknowledged_by !== null ? (
            `${alarm.acknowledged_by}${alarm.note === null ? '' : `: ${alarm.note}`}`
          ) : onTake === undefined ? (
            ''
          ) : (
            <ActionButton key="take" name="I have it…" variant="link" onClick={() => onTake(alarm)} />
          ),
        ];
      })}
    />
  );
}

function TakeDialog({ alarm, onClose }: { alarm: Alarm; onClose: () => void }) {
  const [note, setNote] = useState('');
  const wrong = note.length > 1024 ? 'At most 1024 characters.' : undefined;
  return (
    <ConfirmDialog
      title="You have it in hand"
      action="Acknowledge"
      whyNot={wrong}
      onClose={onClose}
      onConfirm={() =>
        call('POST /api/v1/alarms/{id}/acknowledge', {
          params: { id: alarm.id },
          body: note === '' ? {} : { note },
        })
      }
    >
      <p>{alarm.message}. It stays until it is so no more; others see that you look after it.</p>
      <TextField id="note" label="Note" value={note} wrong={wrong} onChange={setNote} />
    </ConfirmDialog>
  );
}
