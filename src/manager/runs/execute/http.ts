/** An HTTP call of a plan: one request, no redirect that leaves http and https, a bounded answer. */
import { describe, Failure } from '#/lib/failure.ts';
import type { StepBody } from '#/manager/runs/run-step.ts';
import { failed, type StepExecutor } from '#/manager/runs/step-executor.ts';

type Body = Extract<StepBody, { kind: 'http' }>;
/** What is kept of an answer, for people. */
const ANSWER_BYTES_MAX = 4096;
const REDIRECTS_MAX = 5;

export const callHttp: StepExecutor<Body> = async ({ run, step, body, signal }) => {
  const wanted = body.status === null ? '2xx' : String(body.status);
  let answer: { status: number; text: string };
  try {
    answer = await request(body, { run: run.id, step: step.key, signal });
  } catch (error) {
    return failed('unreachable', `${body.method} ${body.url}: ${describe(error)}`.slice(0, 2000));
  }
  const { status, text } = answer;
  const isWanted = body.status === null ? status >= 200 && status < 300 : status === body.status;
  if (isWanted) return { state: 'done', note: `status ${status}`, result: { status, answer: text } };
  return failed(
    'tool_failed',
    `${body.method} ${body.url} answered with status ${status}, not ${wanted}: ${text.slice(0, 200)}`,
  );
};

async function request(
  { method, url, body }: Body,
  call: { run: string; step: string; signal: AbortSignal },
): Promise<{ status: number; text: string }> {
  let at = new URL(url);
  for (let redirects = 0; ; redirects++) {
    const response = await fetch(at, {
      method,
      redirect: 'manual',
      signal: call.signal,
      headers: { 'antipode-run': call.run, 'antipode-step': call.step },
      ...(body === null || redirects > 0 ? {} : { body }),
    });
    const location = response.headers.get('location');
    // Only a question is asked again elsewhere: what changes something is sent to the one who was named.
    const isFollowed =
      response.status >= 300 && response.status < 400 && location !== null && method === 'GET';
    if (!isFollowed) return { status: response.status, text: await textOf(response) };
    await response.body?.cancel();
    at = new URL(location, at);
    if (!['http:', 'https:'].includes(at.protocol)) {
      throw new Failure('forbidden', `redirected to ${at.protocol}, which is not followed`);
    }
    if (redirects >= REDIRECTS_MAX) throw new Failure('limit_exceeded', 'redirected too often');
  }
}

async function textOf(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  if (response.body === null) return text;
  for await (const chunk of response.body) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length >= ANSWER_BYTES_MAX) break;
  }
  return text.slice(0, ANSWER_BYTES_MAX);
}
