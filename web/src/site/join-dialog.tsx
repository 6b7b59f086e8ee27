/** The command that lets one host or replication server join, with a token that is shown once. */
import { ClipboardCopy, Modal, ModalBody, ModalHeader, Skeleton } from '@patternfly/react-core';
import { useQuery } from '@tanstack/react-query';
import { call } from '#/api/call.ts';
import { useCall } from '#/api/use-call.ts';
import { span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { ProblemAlert } from '#/shared/problem-alert.tsx';

export type JoinKind = 'agent' | 'replication-server';

export function JoinDialog({ kind, onClose }: { kind: JoinKind; onClose: () => void }) {
  const nowMs = useNow();
  const self = useCall('GET /api/v1/site', ['site']).data;
  const token = useQuery({
    queryKey: ['POST /api/v1/join-tokens', kind],
    queryFn: () => call('POST /api/v1/join-tokens', { body: { kind } }),
    gcTime: 0,
  });
  const what = kind === 'agent' ? 'host' : 'replication server';
  return (
    <Modal isOpen variant="medium" onClose={onClose} aria-label={`Add a ${what}`}>
      <ModalHeader title={`Add a ${what}`} />
      <ModalBody>
        <ProblemAlert error={token.error} />
        {token.data === undefined || self === undefined ? (
          token.error === null && <Skeleton screenreaderText="A token is being made" />
        ) : (
          <>
            <p>
              On the {what}, as root, before its program is started for the first time. The token admits one{' '}
              {what}, for {span(Math.max(0, token.data.expires_ms - nowMs))}, and is shown only now.
            </p>
            <ClipboardCopy isReadOnly isCode isExpanded variant="expansion" hoverTip="Copy" clickTip="Copied">
              {`printf %s '${token.data.token}' | install -D -m 600 /dev/stdin /etc/antipode/join-token`}
            </ClipboardCopy>
            <p className="card-actions">Its configuration names both:</p>
            <ClipboardCopy isReadOnly isCode isExpanded variant="expansion" hoverTip="Copy" clickTip="Copied">
              {`"manager_url": "https://${self.address}",\n"join_token_file": "/etc/antipode/join-token"`}
            </ClipboardCopy>
            <p className="card-actions subtle">It appears here as soon as it has joined.</p>
          </>
        )}
      </ModalBody>
    </Modal>
  );
}
