/** Tells a target of one turn of an alarm: a signed HTTP POST, or a mail. */
import { createHmac } from 'node:crypto';
import { createTransport } from 'nodemailer';
import type { AlarmView } from '#/api/alarms.ts';
import { Failure } from '#/lib/failure.ts';
import type { NoticeTarget } from './notice-targets.ts';

export type Notice = { turn: 'raised' | 'cleared'; site: string; alarm: AlarmView };

const TIMEOUT_MS = 10_000;

/** `id` is the same when it is told again. Throws unreachable, timeout, forbidden. */
export async function tell(target: NoticeTarget, notice: Notice, id: string): Promise<void> {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  try {
    await (target.kind === 'webhook' ? post(target, notice, id, timeout) : mail(target, notice, id));
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (timeout.aborted) throw new Failure('timeout', `tell ${target.key} of an alarm`, { cause: error });
    throw new Failure('unreachable', `tell ${target.key} of an alarm`, { cause: error });
  }
}

async function post(
  target: Extract<NoticeTarget, { kind: 'webhook' }>,
  notice: Notice,
  id: string,
  signal: AbortSignal,
): Promise<void> {
  const body = JSON.stringify(notice);
  const headers: Record<string, string> = { 'content-type': 'application/json', 'antipode-notice': id };
  if (target.secret !== undefined) {
    headers['antipode-signature'] =
      `sha256=${createHmac('sha256', target.secret).update(body).digest('hex')}`;
  }
  // A redirect might take the notice, and its signature, to somebody else.
  const response = await fetch(target.url, { method: 'POST', headers, body, signal, redirect: 'error' });
  await response.body?.cancel();
  if (!response.ok) throw new Failure('forbidden', `${target.key} answered with status ${response.status}`);
}

async function mail(
  target: Extract<NoticeTarget, { kind: 'mail' }>,
  { turn, site, alarm }: Notice,
  id: string,
): Promise<void> {
  const transport = createTransport({
    url: target.server,
    connectionTimeout: TIMEOUT_MS,
    greetingTimeout: TIMEOUT_MS,
    socketTimeout: TIMEOUT_MS,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  try {
    const word = turn === 'raised' ? alarm.severity.toUpperCase() : 'cleared';
    const times = [
      `raised   ${new Date(alarm.raised_ms).toISOString()}`,
      ...(alarm.cleared_ms === null ? [] : [`cleared  ${new Date(alarm.cleared_ms).toISOString()}`]),
    ];
    await transport.sendMail({
      from: target.from,
      to: target.to,
      // One message for a mailbox, however often the server was asked to take it.
      messageId: `<${id}@antipode.invalid>`,
      subject: `[antipode ${site}] ${word}: ${alarm.message}`.slice(0, 200),
      text: [alarm.message, alarm.hint ?? '', '', ...times, `alarm    ${alarm.id} (${alarm.kind})`, ''].join(
        '\n',
      ),
    });
  } finally {
    transport.close();
  }
}
