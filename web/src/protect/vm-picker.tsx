/** The VMs to protect, as labels that can be taken away, and a search for more. */
import { FormGroup, Label, LabelGroup, TextInput } from '@patternfly/react-core';
import { useState } from 'react';
import { useCall } from '#/api/use-call.ts';

const OFFERED = 8;

export function VmPicker({
  names,
  onChange,
}: {
  names: readonly string[];
  onChange: (names: readonly string[]) => void;
}) {
  const [text, setText] = useState('');
  const found = useCall('GET /api/v1/vm-table', ['site'], {
    query: { search: text, standing: 'unprotected', limit: OFFERED },
  });
  const offered = (found.data?.items ?? []).filter((row) => !names.includes(row.vm_name));
  return (
    <FormGroup label="VMs" fieldId="add-vm">
      {names.length > 0 && (
        <LabelGroup numLabels={20}>
          {names.map((name) => (
            <Label key={name} onClose={() => onChange(names.filter((known) => known !== name))}>
              {name}
            </Label>
          ))}
        </LabelGroup>
      )}
      <TextInput
        id="add-vm"
        placeholder="Search for VMs that are not protected"
        value={text}
        onChange={(_event, value) => setText(value)}
      />
      {(text !== '' || names.length === 0) && (
        <ul className="picker-offer">
          {offered.map((row) => (
            <li key={row.vm_uuid}>
              <button
                type="button"
                className="link-button"
                onClick={() => {
                  onChange([...names, row.vm_name]);
                  setText('');
                }}
              >
                Add {row.vm_name}
              </button>{' '}
              <span className="subtle small">{row.host_name}</span>
            </li>
          ))}
          {found.data !== undefined && offered.length === 0 && (
            <li className="subtle">No VM that is not protected is named so.</li>
          )}
        </ul>
      )}
    </FormGroup>
  );
}
