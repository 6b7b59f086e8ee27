/** Pairs two sites: a token of one is given to the other. */
import { Button, ClipboardCopy } from '@patternfly/react-core';
import { useState } from 'react';
import { call } from '#/api/call.ts';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { TextField } from '#/shared/text-field.tsx';

export function PairDialog({ onClose }: { onClose: () => void }) {
  const [token, setToken] = useState('');
  const [own, setOwn] = useState<string>();
  const [failure, setFailure] = useState<Error>();
  const wrong = /\s/.test(token.trim()) ? 'A token has no spaces.' : undefined;
  const make = async () => {
    try {
      setOwn((await call('POST /api/v1/pairing-tokens', {})).token);
    } catch (error) {
      setFailure(error instanceof Error ? error : new Error('it failed'));
    }
  };
  return (
    <ConfirmDialog
      title="Pair with a site"
      action="Pair"
      whyNot={token.trim() === '' ? 'A token of the other site is needed.' : wrong}
      onClose={onClose}
      onConfirm={() => call('POST /api/v1/pairings', { body: { token: token.trim() } })}
    >
      <p>Paired sites trust each other&apos;s programs. One of them makes a token, the other takes it.</p>
      <TextField
        id="pair-token"
        label="Token that the other site made"
        value={token}
        wrong={wrong}
        onChange={setToken}
      />
      <p className="card-actions">
        {own === undefined ? (
          <Button variant="link" isInline onClick={() => void make()}>
            Or make one here, for the other site
          </Button>
        ) : (
          <ClipboardCopy isReadOnly isCode hoverTip="Copy" clickTip="Copied">
            {own}
          </ClipboardCopy>
        )}
      </p>
      <ProblemAlert error={failure} />
    </ConfirmDialog>
  );
}
