/**
 * Says what will happen, and does it. What the manager refuses is said here, and the dialog stays.
 *
 * `typed` is a name that has to be typed before: nobody does that by mistake. Every dialog that changes something
 * asks for the reason, which the audit log keeps; `isReasonNeeded` insists on one.
 */
import { Button, Form, Modal, ModalBody, ModalFooter, ModalHeader } from '@patternfly/react-core';
import { useState, type FormEvent, type ReactNode } from 'react';
import { ProblemAlert } from './problem-alert.tsx';
import { TextField } from './text-field.tsx';

/** As the manager takes it: percent-encoded, at most 1024 characters of text. */
const REASON_MAX = 1000;
const ENCODED_MAX = 4096;

type Typed = { what: string; name: string };

export function ConfirmDialog(props: {
  title: string;
  action: string;
  children: ReactNode;
  onConfirm: (reason: string) => Promise<unknown>;
  onClose: () => void;
  isDangerous?: boolean;
  whyNot?: string | undefined;
  typed?: Typed | undefined;
  asksReason?: boolean;
  isReasonNeeded?: boolean;
  /** Another dialog follows in its place. */
  staysOpen?: boolean;
}) {
  const { action, children, isDangerous = false, onClose, onConfirm, title, typed, whyNot } = props;
  const { asksReason, isReasonNeeded = false, staysOpen } = props;
  const [failure, setFailure] = useState<Error>();
  const [isBusy, setBusy] = useState(false);
  const [name, setName] = useState('');
  const [reason, setReason] = useState('');
  const isTyped = typed === undefined || name.trim() === typed.name;
  const isReady = whyNot === undefined && isTyped && isSaid(reason, isReasonNeeded) && !isBusy;
  const confirm = async () => {
    setBusy(true);
    setFailure(undefined);
    try {
      await onConfirm(reason.trim());
      if (staysOpen !== true) onClose();
    } catch (error) {
      setFailure(error instanceof Error ? error : new Error('it failed'));
      setBusy(false);
    }
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (isReady) void confirm();
  };
  const asks = asksReason === true || isReasonNeeded;
  return (
    <Modal isOpen variant="medium" onClose={onClose} aria-label={title}>
      <ModalHeader title={title} titleIconVariant={isDangerous ? 'warning' : undefined} />
      <ModalBody>
        {children}
        {(asks || typed !== undefined) && (
          <Form className="card-actions" onSubmit={submit}>
            {typed !== undefined && <NameField typed={typed} value={name} onChange={setName} />}
            {asks && <ReasonField value={reason} isNeeded={isReasonNeeded} onChange={setReason} />}
          </Form>
        )}
        <ProblemAlert error={failure} />
      </ModalBody>
      <ModalFooter>
        <Button
          variant={isDangerous ? 'danger' : 'primary'}
          isLoading={isBusy}
          isDisabled={!isReady}
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

type FieldProps = { value: string; onChange: (value: string) => void };

function NameField({ onChange, typed, value }: FieldProps & { typed: Typed }) {
  const isWrong = value !== '' && !typed.name.startsWith(value.trim());
  return (
    <TextField
      id="confirm-name"
      label={`Type the name of ${typed.what} to go on`}
      value={value}
      wrong={isWrong ? `That is not ${typed.name}.` : undefined}
      autoComplete="off"
      isRequired
      onChange={onChange}
    />
  );
}

function ReasonField({ isNeeded, onChange, value }: FieldProps & { isNeeded: boolean }) {
  return (
    <TextField
      id="confirm-reason"
      label="Reason"
      value={value}
      wrong={wrongReason(value)}
      help={isNeeded ? 'It is kept, and shown in the report.' : 'The audit log keeps it.'}
      isRequired={isNeeded}
      onChange={onChange}
    />
  );
}

function isSaid(reason: string, isNeeded: boolean): boolean {
  return wrongReason(reason) === undefined && (!isNeeded || reason.trim() !== '');
}

function wrongReason(reason: string): string | undefined {
  const isLong = reason.length > REASON_MAX || encodeURIComponent(reason).length > ENCODED_MAX;
  return isLong ? `At most ${REASON_MAX} characters, fewer of those that are no ASCII.` : undefined;
}
