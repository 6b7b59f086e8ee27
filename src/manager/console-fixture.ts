/** For tests: a recovery whose VM shows a real display, and an agent whose real code brings it. */
import type { ConsoleTask } from '#/control/console-task.ts';
import { openConsoleLink } from '#/control/console-link.ts';
import { runConsole } from '#/agent/console-task.ts';
import { failureReport } from '#/agent/protection.ts';
import { failureIn } from '#/lib/failure.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { recoverTaskId } from './recovery-tasks.ts';
import { doneTask, type FakeAgent, type TestSite } from './site-fixture.ts';
import { addJob } from './store/job-store.ts';

/** A job of the database alone: its VM is whatever the agent says. */
export async function addRecovery(
  { manager }: TestSite,
  agent: FakeAgent,
  change: { id: string; purpose?: 'test' | 'recovery'; replicaId?: string },
): Promise<void> {
  const { id, purpose = 'test', replicaId = 'replica-a' } = change;
  await addJob(manager.context.db, {
    id,
    kind: 'recovery',
    replica_id: replicaId,
    created_ms: Date.now(),
    request: {
      replica_id: replicaId,
      vm_name: 'ledger',
      name: 'ledger-test',
      purpose,
      epoch: 1,
      is_source_silent: false,
      host_id: agent.client.membership.id,
      server_id: 'server-a',
      storage_path: null,
    } as never,
  });
}

/** The domain of a recovery as libvirt would tell it. */
export function domainOf(id: string, socketPath: string | undefined, state = 'running') {
  const graphics =
    socketPath === undefined
      ? ''
      : `<graphics type='vnc' socket='${socketPath}'><listen type='socket' socket='${socketPath}'/></graphics>`;
  const mark =
    `<r:recovery xmlns:r='urn:antipode:recovery:1' task='${recoverTaskId(id)}' replica='replica-a' ` +
    `sequence='1' epoch='1' purpose='test'/>`;
  return {
    name: 'ledger-test',
    getXml: async () =>
      `<domain type='kvm'><name>ledger-test</name><metadata>${mark}</metadata>` +
      `<devices>${graphics}</devices></domain>`,
    getState: async () => ({ state }),
  };
}

/** Carries out the consoles that are ordered, with the agent's own code, until the signal aborts. */
export async function bringConsoles(
  agent: FakeAgent,
  domains: readonly ReturnType<typeof domainOf>[],
  signal: AbortSignal,
): Promise<void> {
  const { client } = agent;
  const libvirt = { listDomains: async () => domains } as unknown as Libvirt;
  const seen = new Map<string, AbortController>();
  const openLink = (task: ConsoleTask, stop: AbortSignal) => {
    const { ca_pem: caPem, certificate_pem: certificatePem, private_key_pem, site_id } = client.membership;
    const credentials = { certificatePem, privateKeyPem: private_key_pem };
    return openConsoleLink({ address: task.manager, siteId: site_id, caPem, credentials }, task, stop);
  };
  const carryOut = async (task: ConsoleTask, stop: AbortSignal): Promise<void> => {
    try {
      await runConsole(task, { libvirt, openLink }, stop);
      if (!stop.aborted) await agent.finish(doneTask(task.id));
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      if (stop.aborted) return;
      const report = { ...doneTask(task.id), state: 'failed' as const, failure: failureReport(failure) };
      await agent.finish(report);
    }
  };
  while (!signal.aborted) {
    const orders = await agent.poll(signal).catch(() => undefined);
    // The test is over, or its manager is.
    if (orders === undefined) break;
    const tasks = orders.tasks.filter((task) => task.kind === 'console');
    for (const [id, stop] of seen) if (!tasks.some((task) => task.id === id)) stop.abort();
    for (const task of tasks) {
      if (seen.has(task.id)) continue;
      const stop = new AbortController();
      seen.set(task.id, stop);
      void carryOut(task, AbortSignal.any([signal, stop.signal])).catch(() => undefined);
    }
  }
  for (const stop of seen.values()) stop.abort();
}
