/** What happened, the newest first, as it happens. */
import { PageSection, ToggleGroup, ToggleGroupItem } from '@patternfly/react-core';
import { useState } from 'react';
import { PageHead } from '#/shell/page-head.tsx';
import { EventList } from './event-list.tsx';

const LISTED = 300;
const KINDS: readonly (readonly [name: string, severities: readonly string[] | undefined])[] = [
  ['All', undefined],
  ['Warnings and errors', ['warning', 'error']],
  ['Errors', ['error']],
];

export function EventsPage() {
  const [kind, setKind] = useState(0);
  const severities = KINDS[kind]![1];
  return (
    <>
      <PageHead title="Events" />
      <PageSection hasBodyWrapper={false} isFilled className="stack">
        <ToggleGroup isCompact aria-label="Which">
          {KINDS.map(([name], index) => (
            <ToggleGroupItem
              key={name}
              text={name}
              isSelected={kind === index}
              onChange={() => setKind(index)}
            />
          ))}
        </ToggleGroup>
        <EventList limit={LISTED} {...(severities === undefined ? {} : { severities })} />
      </PageSection>
    </>
  );
}
