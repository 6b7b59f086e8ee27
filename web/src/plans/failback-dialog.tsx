/**
 * Brings VMs of this site home that a plan of another one has moved there. The plan is that site's, so it is named
 * here; what came of its last run is asked before anything begins.
 */
import { Form, FormGroup, FormSelect, FormSelectOption } from '@patternfly/react-core';
import { useState } from 'react';
import { useCall } from '#/api/use-call.ts';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { TextField } from '#/shared/text-field.tsx';
import { StartRunDialog } from './start-run-dialog.tsx';

/** As the manager has it: checked here so that nothing wrong is sent. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

export function FailbackDialog({ onClose }: { onClose: () => void }) {
  const [plan, setPlan] = useState('');
  const [site, setSite] = useState('');
  const [isChosen, setChosen] = useState(false);
  const sites = useCall('GET /api/v1/sites', ['site']);
  const name = plan.trim();
  const wrong =
    name !== '' && !NAME.test(name)
      ? 'Letters, digits and . _ - only, beginning with a letter or digit.'
      : undefined;
  if (isChosen) return <StartRunDialog kind="failback" plan={name} site={site} onClose={onClose} />;
  return (
    <ConfirmDialog
      title="Bring VMs home"
      action="Look at it"
      whyNot={name === '' ? 'The name of the plan is needed.' : wrong}
      onClose={() => (isChosen ? undefined : onClose())}
      onConfirm={async () => setChosen(true)}
      staysOpen
    >
      <p>
        A plan of another site has moved VMs of this one there. They come home in its order, onto the networks
        that they were on here. Nothing begins before you have seen what would happen.
      </p>
      <Form className="card-actions" onSubmit={(event) => event.preventDefault()}>
        <TextField
          id="failback-plan"
          label="Plan that moved them"
          value={plan}
          wrong={wrong}
          help="By its name at the site where they run now."
          isRequired
          onChange={setPlan}
        />
        <FormGroup label="Where they are" fieldId="failback-site">
          <FormSelect id="failback-site" value={site} onChange={(_event, value) => setSite(value)}>
            <FormSelectOption value="" label="Any paired site" />
            {(sites.data?.items ?? [])
              .filter((known) => !known.is_self)
              .map((known) => (
                <FormSelectOption key={known.id} value={known.name} label={known.name} />
              ))}
          </FormSelect>
        </FormGroup>
      </Form>
    </ConfirmDialog>
  );
}
