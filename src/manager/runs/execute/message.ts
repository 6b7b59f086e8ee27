/** A message waits for a person. The answer is a record of its own, since any manager of the site may take it. */
import { failed, type StepExecutor } from '#/manager/runs/step-executor.ts';

export const awaitAnswer: StepExecutor<{ kind: 'message'; text: string }> = async ({ step }) => {
  const { answer } = step;
  if (answer === null) return { state: 'waiting', note: 'waits for a person' };
  if (answer.answer === 'continue') return { state: 'done', note: `${answer.by} said to go on` };
  return failed('cancelled', `${answer.by} said to stop`);
};
