/** Failures across the wire (docs/wire-protocol.md, section 8): the code survives, the reasons become text. Pure. */
import { describe, Failure, isFailureCode } from '#/lib/failure.ts';
import { FAILURE_TEXT_LENGTH_MAX } from './limits.ts';
import type { FailureMessage } from './messages.ts';

export function toFailureMessage(failure: Failure): FailureMessage {
  const { code, hint } = failure;
  const message = cut(describe(failure));
  return { kind: 'failure', code, message, ...(hint !== undefined && { hint: cut(hint) }) };
}

/** The peer's failure as one of ours. A code that this program does not know says that the peer is newer. */
export function fromFailureMessage(message: FailureMessage): Failure {
  const options = message.hint === undefined ? {} : { hint: message.hint };
  if (isFailureCode(message.code)) return new Failure(message.code, message.message, options);
  return new Failure('protocol_unsupported', `${message.code}: ${message.message}`, options);
}

function cut(text: string): string {
  return text.slice(0, FAILURE_TEXT_LENGTH_MAX).toWellFormed();
}
