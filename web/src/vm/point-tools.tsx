/** What can be done with a recovery point besides bringing it up: keep it by a name, or take it out as images. */
import {
  Button,
  ClipboardCopy,
  FlexItem,
  Form,
  FormGroup,
  FormSelect,
  FormSelectOption,
  Label,
  LabelGroup,
  Modal,
  ModalBody,
  ModalFooter,
  ModalHeader,
} from '@patternfly/react-core';
import { useState } from 'react';
import { call } from '#/api/call.ts';
import type { Bookmark, Point, Replica } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { exact, moment } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { ActionButton } from '#/shared/action-button.tsx';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { TextField } from '#/shared/text-field.tsx';
import { canManage } from '#/shared/what-may-be-done.ts';

const DAY_MS = 86_400_000;
const NAME_LENGTH_MAX = 128;
const SPANS: readonly (readonly [text: string, ms: number | undefined])[] = [
  ['Until the bookmark is taken away', undefined],
  ['For 1 day', DAY_MS],
  ['For 7 days', 7 * DAY_MS],
  ['For 30 days', 30 * DAY_MS],
  ['For 1 year', 365 * DAY_MS],
];
const STATES: Record<Bookmark['state'], string> = {
  kept: 'kept',
  asked: 'its server has not confirmed it yet',
  gone: 'the point went before it could be kept',
  ended: 'kept no longer',
};

export function PointTools({ point, replica }: { point: Point | undefined; replica: Replica | undefined }) {
  const [asked, setAsked] = useState<'bookmark' | 'export'>();
  if (replica === undefined || point === undefined) return null;
  const close = () => setAsked(undefined);
  return (
    <>
      <FlexItem>
        <ActionButton
          name="Bookmark…"
          variant="link"
          whyNot={canManage('protection.manage')}
          onClick={() => setAsked('bookmark')}
        />
        <ActionButton name="Export…" variant="link" onClick={() => setAsked('export')} />
      </FlexItem>
      {asked === 'bookmark' && <BookmarkDialog replica={replica} point={point} onClose={close} />}
      {asked === 'export' && <ExportDialog replica={replica} point={point} onClose={close} />}
    </>
  );
}

/** Those of the replica: a press chooses the point, the cross takes the bookmark away. */
export function BookmarkLabels(props: {
  replica: Replica | undefined;
  onChoose: (sequence: number) => void;
}) {
  const { onChoose, replica } = props;
  const nowMs = useNow();
  const [leaving, setLeaving] = useState<Bookmark>();
  const bookmarks = replica?.bookmarks ?? [];
  if (replica === undefined || bookmarks.length === 0) return null;
  const isAllowed = canManage('protection.manage') === undefined;
  return (
    <>
      <LabelGroup categoryName="Bookmarks" numLabels={8} aria-label="Bookmarks">
        {bookmarks.map((bookmark) => (
          <Label
            key={bookmark.sequence}
            color={bookmark.state === 'kept' ? 'blue' : 'grey'}
            title={`${exact(bookmark.moment_ms)}, ${STATES[bookmark.state]}`}
            onClick={() => onChoose(bookmark.sequence)}
            {...(isAllowed
              ? { onClose: () => setLeaving(bookmark), closeBtnAriaLabel: `Take ${bookmark.name} away` }
              : {})}
          >
            {bookmark.name}, {moment(bookmark.moment_ms, nowMs)}
            {bookmark.state === 'kept' ? '' : ` (${STATES[bookmark.state]})`}
          </Label>
        ))}
      </LabelGroup>
      {leaving !== undefined && (
        <ConfirmDialog
          title={`Take the bookmark ${leaving.name} away?`}
          action="Take it away"
          isDangerous
          onClose={() => setLeaving(undefined)}
          onConfirm={() =>
            call('DELETE /api/v1/replicas/{id}/bookmarks/{sequence}', {
              params: { id: replica.id, sequence: String(leaving.sequence) },
            })
          }
        >
          <p>
            Retention decides about the point of {moment(leaving.moment_ms, nowMs)} again: it may go at once.
          </p>
        </ConfirmDialog>
      )}
    </>
  );
}

type Of = { replica: Replica; point: Point; onClose: () => void };

function BookmarkDialog({ onClose, point, replica }: Of) {
  const nowMs = useNow();
  // The newest may be another one while somebody types.
  const [chosen] = useState(point);
  const [name, setName] = useState(chosen.bookmark ?? '');
  const [kept, setKept] = useState(0);
  const wrong = nameWrong(name);
  const forMs = SPANS[kept]?.[1];
  return (
    <ConfirmDialog
      title={`Bookmark the point of ${moment(chosen.moment_ms, nowMs)}`}
      action="Bookmark"
      whyNot={name === '' ? 'A name is needed.' : wrong}
      onClose={onClose}
      onConfirm={() =>
        call('POST /api/v1/replicas/{id}/bookmarks', {
          params: { id: replica.id },
          body: {
            sequence: chosen.sequence,
            name: name.trim(),
            until_ms: forMs === undefined ? null : nowMs + forMs,
          },
        })
      }
    >
      <p>
        The point stays, whatever the retention is, and takes room at this site for what was written over
        since.
      </p>
      <Form onSubmit={(event) => event.preventDefault()}>
        <TextField id="bookmark-name" label="Name" value={name} wrong={wrong} onChange={setName} isRequired />
        <FormGroup label="Kept" fieldId="bookmark-kept">
          <FormSelect id="bookmark-kept" value={kept} onChange={(_event, value) => setKept(Number(value))}>
            {SPANS.map(([text], index) => (
              <FormSelectOption key={text} value={index} label={text} />
            ))}
          </FormSelect>
        </FormGroup>
      </Form>
    </ConfirmDialog>
  );
}

function nameWrong(name: string): string | undefined {
  if (name !== '' && name.trim() === '') return 'It is blank.';
  return name.length > NAME_LENGTH_MAX ? `At most ${NAME_LENGTH_MAX} characters.` : undefined;
}

function ExportDialog({ onClose, point, replica }: Of) {
  const [chosen] = useState(point);
  const { data } = useCall('GET /api/v1/replication-servers', ['site']);
  const server = data?.items.find((known) => known.id === replica.server_id);
  const directory = `${server?.store_path ?? '/var/lib/antipode/replicas'}/${replica.id}`;
  const command = `antipode replica export ${directory} /path/for/images --point ${chosen.sequence}`;
  return (
    <Modal isOpen variant="medium" onClose={onClose} aria-label="Export">
      <ModalHeader title={`Export point ${chosen.sequence} of ${replica.vm_name}`} />
      <ModalBody>
        <p>
          On replication server <strong>{server?.name ?? replica.server_id}</strong>, as root, this writes
          each disk of that moment as a qcow2 image (or with <code>--format raw</code>), checked by its
          digests. Replication goes on meanwhile; neither this manager nor its database is needed.
        </p>
        <ClipboardCopy isReadOnly hoverTip="Copy" clickTip="Copied" textAriaLabel="Command">
          {command}
        </ClipboardCopy>
      </ModalBody>
      <ModalFooter>
        <Button variant="link" onClick={onClose}>
          Close
        </Button>
      </ModalFooter>
    </Modal>
  );
}
