/**
 * Brings a VM up on this host from a recovery point that the replication server serves over NBD.
 *
 * Overlay, firmware, edit, network, define, start, sign of life, pull: each can be repeated. A recovery pulls its disks
 * until it stands alone; a test stays on its overlays, since it is going to be thrown away. A VM that is left off is
 * only defined in a test; in a recovery it is started paused to be pulled, and ended again.
 */
import type { RecoverTask } from '#/control/orders.ts';
import type { Clock } from '#/lib/clock.ts';
import type { Domain } from '#/libvirt/domain.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { adaptDefinition, type Adapted } from '#/recovery/adapt-definition.ts';
import type { Journey } from '#/recovery/home-networks.ts';
import type { Baselines } from './baseline/baselines.ts';
import { keepDigests } from './baseline/keep-digests.ts';
import { carryOutEdit, editOf, type EditDisks } from './edit/recover-edit.ts';
import { restoreAddresses } from './guest/restore-addresses.ts';
import type { Places } from './places.ts';
import { checkTarget, domainOf, ownDomain, startNetworks } from './recover-check.ts';
import { makeOverlays, readDefinition, restoreFirmware, type FirmwarePaths } from './recover-files.ts';
import { consoleLogPath, taskDirectory, taskUuid } from './recover-names.ts';
import { isolationOf, testNetworksOf, type TestNetworks } from './recover-network.ts';
import { makeIndependent } from './recover-pull.ts';
import type { RecoveryState, RecoveryStates } from './recovery-state.ts';
import type { RetiredCopies } from './retire/retired-copies.ts';
import { leaveOff, requireSign, silenceOf, startAndWait, type Awakening } from './sign-of-life.ts';
import type { Note, StepLog } from './step-log.ts';
import { targetHost } from './target-host.ts';

export type RecoverContext = {
  libvirt: Libvirt;
  clock: Clock;
  states: RecoveryStates;
  networks: TestNetworks;
  firmware: FirmwarePaths;
  steps: StepLog;
  /** Old copies that made room. */
  retired: RetiredCopies;
  /** What recovered VMs held at first. */
  baselines: Baselines;
  /** Pulls under way at the same time on this host. */
  pulls: Places;
  editDisks: EditDisks;
  /** The VM was started, and what is left takes long: another VM may start. `standing` is told at once. */
  isUp: (standing: RecoverStanding) => void;
};

/** How a VM stands that was started or is left off, also while its disks are still to be pulled. */
export type RecoverStanding = {
  vm_uuid: string;
  vm_name: string;
  sequence: number;
  first_instruction_ms: number | null;
  /** When it gave its sign of life, or was started if it has no way to give one; null when the sign did not come. */
  up_ms: number | null;
  no_sign: string | null;
  /** It was not to be started: there is no first instruction and no sign. */
  left_off: boolean;
  /** Why its addresses were not changed, although they were to be. */
  not_edited: string | null;
};

export type RecoverResult = RecoverStanding & {
  /** Null when the VM has nothing that could give one. */
  sign_of_life: string | null;
  sign_of_life_ms: number | null;
  console_tail: string;
  independent: boolean;
  directory: string;
  notes: string[];
};

const AGENT_CHANNEL = 'org.qemu.guest_agent.0';

type Step = <T>(name: string, work: (note: Note) => Promise<T>) => Promise<T>;

/**
 * Throws Failure already_exists, not_found, vm_unsupported, usage_invalid, storage_full, timeout (the VM runs, but
 * gave no sign of life), libvirt_error, tool_failed.
 */
export async function runRecover(
  task: RecoverTask,
  context: RecoverContext,
  signal: AbortSignal,
): Promise<RecoverResult> {
  const { states } = context;
  const step: Step = async (name, work) => {
    signal.throwIfAborted();
    return await context.steps.run(name, work);
  };
  const [adapted, kept] = await step('check', () =>
    Promise.all([prepare(task, context), states.read(task.id)]),
  );
  let state = kept ?? newState(task, adapted);
  const defined = await ensureDefined({ task, context, adapted, state, step, signal });
  const { domain } = defined;
  state = defined.state;
  if (!state.started) {
    state = { ...state, started: true };
    await states.write(state);
  }
  const awakening = await awaken(domain, { state, task, context, step }, signal);
  state = awakening.state;
  await restoreHome(domain, { task, context, awakening, step }, signal);
  const standing = standingOf({ task, adapted, awakening, nowMs: context.clock.now() });
  context.isUp(standing);
  if (state.tracking !== undefined && !state.isIndependent) {
    const parts = { task, context, state };
    await step('keep the digests of its point', (note) => keepDigests(domain, { ...parts, note }, signal));
  }
  if (task.purpose === 'recovery' && !state.isIndependent) {
    state = await step('pull the disks', async (note) => {
      using _place = await context.pulls.take(signal);
      return await makeIndependent(
        domain,
        { state, task, context, note, policies: adapted.policies },
        signal,
      );
    });
  }
  if (task.purpose === 'recovery' && (await context.retired.hadAutostart(task.id))) {
    // Last: a start of a VM that still needs the replica would fail.
    await step('turn its autostart on', () => domain.setAutostart(true));
    await context.retired.autostartIsBack(task.id);
  }
  requireSign(awakening, task);
  return result({ standing, notes: adapted.notes, state, awakening });
}

/** Before another may begin with the VM: a plan that gives it addresses of its own does so after this. */
async function restoreHome(
  domain: Domain,
  parts: { task: RecoverTask; context: RecoverContext; awakening: Awakening; step: Step },
  signal: AbortSignal,
): Promise<void> {
  const { awakening, context, step, task } = parts;
  const isUp = silenceOf(awakening, task) === undefined && awakening.state.isLeftOff !== true;
  if (task.restores_addresses !== true || !isUp || awakening.state.isIndependent) return;
  // Without a way to an agent nothing was changed through one.
  if (!(await domain.getXml()).includes(AGENT_CHANNEL)) return;
  await step('put back the addresses of home', async (note) => {
    const { isRestored, words } = await restoreAddresses(domain, context.clock, signal);
    note(words);
    if (!isRestored) awakening.notes.push(words);
  });
}

async function awaken(
  domain: Domain,
  parts: { task: RecoverTask; context: RecoverContext; state: RecoveryState; step: Step },
  signal: AbortSignal,
): Promise<Awakening> {
  const { state, step } = parts;
  if (state.isLeftOff !== true) {
    return await step('start', (note) => startAndWait(domain, { ...parts, note }, signal));
  }
  if (!state.isHeld) return await leaveOff(domain, { ...parts, note: () => undefined });
  return await step('start paused', (note) => leaveOff(domain, { ...parts, note }));
}

/** The VM as this task defined it, with all that it needs made before. */
async function ensureDefined(parts: {
  task: RecoverTask;
  context: RecoverContext;
  adapted: Adapted;
  state: RecoveryState;
  step: Step;
  signal: AbortSignal;
}): Promise<{ domain: Domain; state: RecoveryState }> {
  const { task, context, adapted, state, step } = parts;
  const { libvirt } = context;
  const existing = await ownDomain(libvirt, task, adapted.uuid);
  const isNew = existing === undefined && !state.started;
  if (isNew) {
    await retireOldCopy(parts);
    await step('check the target', () => checkTarget(task, adapted, libvirt));
    await context.states.write(state);
  }
  const networks =
    task.purpose === 'recovery'
      ? step('start networks', () => startNetworks(task, adapted, libvirt))
      : step('make the test network', () => context.networks.ensure(libvirt, task, state));
  const files = isNew
    ? [
        step('make overlays', () => makeOverlays(task, state.directory)),
        step('restore firmware state', () => restoreFirmware(task, state, context.firmware)),
      ]
    : [];
  // Last of all files: a VM that is defined has its overlays, and they are never made anew.
  const defined = allEnded(files).then(async () => {
    if (existing !== undefined) return { domain: existing, state };
    const edited = isNew ? await editBeforeStart(parts) : { xml: xmlAfterEdit(parts), state };
    const domain = await step('define', () => libvirt.defineDomain(edited.xml));
    return { domain, state: edited.state };
  });
  await allEnded([networks, defined]);
  return await defined;
}

/** Of a VM that an earlier try has edited, and that somebody has undefined since. */
function xmlAfterEdit({ task, adapted, state }: Parameters<typeof ensureDefined>[0]): string {
  return state.editNote === undefined ? (editOf(task, adapted)?.xml ?? adapted.xml) : adapted.xml;
}

async function editBeforeStart(
  parts: Parameters<typeof ensureDefined>[0],
): Promise<{ xml: string; state: RecoveryState }> {
  const { task, context, adapted, state, step, signal } = parts;
  const edit = editOf(task, adapted);
  if (edit === undefined) return { xml: adapted.xml, state };
  const { directory } = state;
  const { editDisks } = context;
  const remake = () => makeOverlays(task, directory);
  const { xml, said } = await step(edit.name, (note) =>
    carryOutEdit(edit, { task, adapted, directory, editDisks, remake, note }, signal),
  );
  if (said === undefined) return { xml, state };
  const noted = { ...state, editNote: said };
  await context.states.write(noted);
  return { xml, state: noted };
}

/** An old copy of this very VM, which has yielded, makes room; it is put back when the recovery is taken back. */
async function retireOldCopy({
  task,
  context,
  adapted,
  step,
}: Parameters<typeof ensureDefined>[0]): Promise<void> {
  if (task.retires_old_copy !== true || task.purpose === 'test') return;
  const old = await domainOf(context.libvirt, adapted.uuid);
  if (old === undefined) return;
  await step('put the old copy aside', async (note) => note(await context.retired.retire(task.id, old)));
}

/** Throws the first failure when all have ended: nothing is made after a task has. */
async function allEnded(work: Promise<unknown>[]): Promise<void> {
  for (const ended of await Promise.allSettled(work)) if (ended.status === 'rejected') throw ended.reason;
}

async function prepare(task: RecoverTask, context: RecoverContext): Promise<Adapted> {
  const directory = taskDirectory(task);
  const isolated = isolationOf(task);
  const hasNvram = task.view.attachments.some((attachment) => attachment.kind === 'nvram');
  const [definition, host] = await Promise.all([readDefinition(task), targetHost(context.libvirt)]);
  return adaptDefinition(
    definition,
    {
      name: task.name,
      ...(isolated === undefined ? {} : { uuid: taskUuid(task.id), isolated }),
      mark: {
        taskId: task.id,
        replicaId: task.replica_id,
        sequence: task.view.sequence,
        epoch: task.epoch,
        purpose: task.purpose,
      },
      ...(task.claim === undefined ? {} : { claim: task.claim }),
      disks: task.view.disks.map((disk) => ({
        key: disk.key,
        overlayPath: `${directory}/${disk.key}.qcow2`,
        socketPath: task.view.socket_path,
        exportName: disk.export_name,
      })),
      networks: task.networks,
      defaultNetwork: task.default_network,
      ...journeyOf(task),
      ...(hasNvram ? { nvramPath: `${directory}/nvram` } : {}),
      consoleLogPath: consoleLogPath(directory),
    },
    host,
  );
}

function journeyOf({ journey }: RecoverTask): { journey?: Journey } {
  if (journey === undefined) return {};
  return { journey: { fromSiteId: journey.from_site_id, toSiteId: journey.to_site_id } };
}

function newState(task: RecoverTask, adapted: Adapted): RecoveryState {
  return {
    taskId: task.id,
    name: task.name,
    uuid: adapted.uuid,
    directory: taskDirectory(task),
    ...testNetworksOf(task, adapted.networks),
    macs: adapted.macs,
    hasTpm: task.view.attachments.some((attachment) => attachment.kind === 'tpm'),
    started: false,
    ...(task.start === false ? { isLeftOff: true } : {}),
    firstInstructionMs: null,
    hasRun: false,
    sign: null,
    signMs: null,
    isHeld: task.start === false && task.purpose === 'recovery',
    isIndependent: false,
  };
}

function standingOf(parts: {
  task: RecoverTask;
  adapted: Adapted;
  awakening: Awakening;
  nowMs: number;
}): RecoverStanding {
  const { task, adapted, awakening, nowMs } = parts;
  const { signMs, firstInstructionMs, isLeftOff = false } = awakening.state;
  const silence = silenceOf(awakening, task);
  const isUp = silence === undefined && !isLeftOff;
  return {
    vm_uuid: adapted.uuid,
    vm_name: task.name,
    sequence: task.view.sequence,
    first_instruction_ms: firstInstructionMs,
    up_ms: isUp ? (signMs ?? firstInstructionMs ?? nowMs) : null,
    no_sign: silence?.message ?? null,
    left_off: isLeftOff,
    not_edited: awakening.state.editNote ?? null,
  };
}

function result(parts: {
  standing: RecoverStanding;
  notes: readonly string[];
  state: RecoveryState;
  awakening: Awakening;
}): RecoverResult {
  const { standing, notes, state, awakening } = parts;
  return {
    ...standing,
    sign_of_life: state.sign,
    sign_of_life_ms: state.signMs,
    console_tail: awakening.consoleTail,
    independent: state.isIndependent,
    directory: state.directory,
    notes: [...notes, ...awakening.notes],
  };
}
