/** What the manager says of each VM, before and after. */
import { CheckCircleIcon } from '@patternfly/react-icons/dist/esm/icons/check-circle-icon';
import { ExclamationCircleIcon } from '@patternfly/react-icons/dist/esm/icons/exclamation-circle-icon';
import { Spinner } from '@patternfly/react-core';
import { bytes, plural } from '#/lib/format.ts';
import type { Checked, ProtectWork } from './use-protect.ts';

/** More are counted, not listed. */
const SHOWN = 50;

export function CheckList({ names, work }: { names: readonly string[]; work: ProtectWork }) {
  if (names.length === 0) return <p className="subtle">Choose VMs first.</p>;
  return (
    <>
      <ul className="check-list">
        {names.slice(0, SHOWN).map((name) => (
          <li key={name}>
            <CheckLine name={name} checked={work.at(name)} />
          </li>
        ))}
      </ul>
      {names.length > SHOWN && <p className="subtle">And {names.length - SHOWN} more.</p>}
    </>
  );
}

function CheckLine({ checked, name }: { name: string; checked: Checked | undefined }) {
  switch (checked?.state) {
    case 'good': {
      const { disks } = checked.check;
      const need = disks.reduce((sum, disk) => sum + disk.need_bytes, 0);
      return (
        <>
          <CheckCircleIcon className="icon-good" aria-label="Nothing speaks against it" />{' '}
          <strong>{name}</strong>: {plural(disks.length, 'disk')} ({disks.map((disk) => disk.key).join(', ')}
          ); its replica takes up to {bytes(need)} at first.
        </>
      );
    }
    case 'bad':
      return (
        <>
          <ExclamationCircleIcon className="icon-error" aria-label="It cannot be" /> <strong>{name}</strong>:{' '}
          {checked.problem.message.replace(/[.]$/, '')}.{' '}
          <span className="subtle">{checked.problem.hint}</span>
        </>
      );
    case 'done':
      return (
        <>
          <CheckCircleIcon className="icon-good" aria-label="Done" /> <strong>{name}</strong> is protected.
        </>
      );
    case 'checking':
    case undefined:
      return (
        <>
          <Spinner size="sm" aria-label="Being checked" /> <strong>{name}</strong>
        </>
      );
  }
}
