/** What goes on only when a person does something. */
import { Button, EmptyState, List, ListItem } from '@patternfly/react-core';
import { CheckCircleIcon } from '@patternfly/react-icons/dist/esm/icons/check-circle-icon';
import { useState } from 'react';
import { Link } from 'react-router';
import { addressOf } from '#/addresses.ts';
import type { Need } from '#/api/types.ts';
import { span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { SEVERITY_ICONS } from '#/shared/severity-icons.tsx';

const AT_FIRST = 6;

export function NeedsList({ needs, count }: { needs: readonly Need[]; count: number }) {
  const [isAll, setAll] = useState(false);
  if (needs.length === 0) {
    return (
      <EmptyState
        variant="sm"
        icon={CheckCircleIcon}
        titleText="Nothing waits for you"
        status="success"
        headingLevel="h3"
      />
    );
  }
  const shown = isAll ? needs : needs.slice(0, AT_FIRST);
  return (
    <>
      <List isPlain>
        {shown.map((need) => (
          <NeedItem key={`${need.subject.kind} ${need.subject.id} ${need.text}`} need={need} />
        ))}
      </List>
      {shown.length < needs.length && (
        <Button variant="link" isInline onClick={() => setAll(true)}>
          {needs.length - shown.length} more
        </Button>
      )}
      {isAll && count > needs.length && (
        <p className="subtle">And {count - needs.length} more of the same kinds.</p>
      )}
    </>
  );
}

function NeedItem({ need }: { need: Need }) {
  const nowMs = useNow();
  const address = addressOf(need.subject.kind, need.subject.id);
  const since = need.since_ms === null ? undefined : `for ${span(Math.max(0, nowMs - need.since_ms))}`;
  return (
    <ListItem icon={SEVERITY_ICONS[need.severity]}>
      {address === undefined ? need.text : <Link to={address}>{need.text}</Link>}
      {since !== undefined && <span className="subtle"> {since}</span>}
      {need.hint !== null && <div className="subtle small">{need.hint}</div>}
    </ListItem>
  );
}
