/** A secret or link that the manager made and does not keep: shown now, and never again. */
import {
  Alert,
  Button,
  ClipboardCopy,
  Modal,
  ModalBody,
  ModalFooter,
  ModalHeader,
} from '@patternfly/react-core';

export type Once = { title: string; says: string; secret: string };

export function OnceDialog({ once, onClose }: { once: Once; onClose: () => void }) {
  return (
    <Modal isOpen variant="medium" aria-label={once.title}>
      <ModalHeader title={once.title} />
      <ModalBody>
        <p>{once.says}</p>
        <ClipboardCopy
          isReadOnly
          isCode
          hoverTip="Copy"
          clickTip="Copied"
          textAriaLabel="The secret"
          className="card-actions"
        >
          {once.secret}
        </ClipboardCopy>
        <Alert variant="warning" isInline isPlain title="It is shown only now." className="card-actions" />
      </ModalBody>
      <ModalFooter>
        <Button onClick={onClose}>I have it</Button>
      </ModalFooter>
    </Modal>
  );
}
