/**
 * Carries out tasks on guests as the agent of a site does, for tests: it is run inside the site, takes the tasks as
 * JSON, and answers with what came of each.
 */
import type { GuestTask } from '#/control/guest-tasks.ts';
import { guestRecords } from '#/agent/guest/guest-records.ts';
import { runGuestTask } from '#/agent/guest/run-guest-task.ts';
import { RecoveryStates } from '#/agent/recovery-state.ts';
import { StepLog } from '#/agent/step-log.ts';
import { failureIn } from '#/lib/failure.ts';
import { systemClock as clock } from '#/lib/system-clock.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';

const [directory = '', text = ''] = process.argv.slice(2);
const states = new RecoveryStates(directory);
await states.load();
await using libvirt = await Libvirt.connect();
const records = guestRecords(directory);

async function carryOut(task: GuestTask): Promise<unknown> {
  const steps = new StepLog(clock, () => undefined);
  const context = { libvirt, clock, states, records, steps };
  try {
    return { result: await runGuestTask(task, context, new AbortController().signal) };
  } catch (error) {
    const failure = failureIn(error);
    if (failure === undefined) throw error;
    const { code, message, hint } = failure;
    return { failure: { code, message, hint: hint ?? null } };
  }
}

// Groups come one after the other; the tasks of a group at the same time.
const outcomes: unknown[] = [];
for (const group of JSON.parse(text) as GuestTask[][]) {
  outcomes.push(...(await Promise.all(group.map(carryOut))));
}
process.stdout.write(JSON.stringify(outcomes));
