/** Says what will happen, and does it. What the manager refuses is said here, and the dialog stays. */
import { Button, Modal, ModalBody, ModalFooter, ModalHeader } from '@patternfly/react-core';
import { useState, type ReactNode } from 'react';
import { ProblemAlert } from './problem-alert.tsx';

export function ConfirmDialog(props: {
  title: string;
  action: string;
  children: ReactNode;
  onConfirm: () => Promise<unknown>;
  onClose: () => void;
  isDangerous?: boolean;
  whyNot?: string | undefined;
}) {
  const { action, children, isDangerous = false, onClose, onConfirm, title, whyNot } = props;
  const [failure, setFailure] = useState<Error>();
  const [isBusy, setBusy] = useState(false);
  const confirm = async () => {
    setBusy(true);
    try {
      await onConfirm();
      onClose();
    } catch (error) {
      setFailure(error instanceof Error ? error : new Error('it failed'));
      setBusy(false);
    }
  };
  return (
    <Modal isOpen variant="medium" onClose={onClose} aria-label={title}>
      <ModalHeader title={title} titleIconVariant={isDangerous ? 'warning' : undefined} />
      <ModalBody>
        {children}
        <ProblemAlert error={failure} />
      </ModalBody>
      <ModalFooter>
        <Button
          variant={isDangerous ? 'danger' : 'primary'}
          isLoading={isBusy}
          isDisabled={isBusy || whyNot !== undefined}
          onClick={() => void confirm()}
        >
          {action}
        </Button>
        <Button variant="link" onClick={onClose}>
          Cancel
        </Button>
      </ModalFooter>
    </Modal>
  );
}
