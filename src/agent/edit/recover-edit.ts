/**
 * The edit of a VM's disks as a part of its recovery: between its overlays and its definition. So a try that was cut
 * finds no VM, makes the overlays anew and edits those; and what a test edits goes with its overlays.
 */
import type { RecoverTask } from '#/control/orders.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { Adapted } from '#/recovery/adapt-definition.ts';
import { editHomeIn, isEmulatedIn, withEditHome, withMacs } from '#/recovery/edit-mark.ts';
import type { Note } from '#/agent/step-log.ts';
import type { ApplianceDisk } from './appliance.ts';
import type { OfflineNic, OfflineWish } from './decide-edit.ts';
import { editNote, notEdited, type Edited, type EditLimits } from './edit-disks.ts';

/** Of putting back what an edit has kept, which no plan gives a time for. */
const RESTORE_MS = 600_000;

export type EditDisks = (
  disks: readonly ApplianceDisk[],
  wish: OfflineWish | null,
  limits: EditLimits,
) => Promise<Edited>;

export type RecoverEdit = { name: string; wish: OfflineWish | null; xml: string };

/** What is to be done, and the definition of a VM to which it was done; undefined when it is nothing. */
export function editOf(task: RecoverTask, adapted: Adapted): RecoverEdit | undefined {
  const { edit, journey } = task;
  const home = editHomeIn(adapted.xml);
  if (edit !== undefined) {
    const { xml, macs } = withMacs(adapted.xml, task.id);
    const wish = wishOf(task.name, edit, { macs, before: adapted.macs });
    // A test goes nowhere; of a VM that was edited before, what is kept is of its first site.
    const marked = journey === undefined ? xml : withEditHome(xml, home ?? journey.from_site_id);
    return { name: 'edit the disks', wish, xml: marked };
  }
  if (journey === undefined || home !== journey.to_site_id) return undefined;
  return { name: 'put the addresses back', wish: null, xml: withEditHome(adapted.xml, undefined) };
}

/**
 * Answers the definition to go on with, and what is to be said. `remake` makes the overlays anew. Throws what
 * `editDisks` throws when the plan does not go on without it.
 */
export async function carryOutEdit(
  edit: RecoverEdit,
  parts: {
    task: RecoverTask;
    adapted: Adapted;
    directory: string;
    editDisks: EditDisks;
    remake: () => Promise<void>;
    note: Note;
  },
  signal: AbortSignal,
): Promise<{ xml: string; said?: string }> {
  const { task, adapted, directory, note } = parts;
  const disks = task.view.disks.map(({ key }): ApplianceDisk => ({
    path: `${directory}/${key}.qcow2`,
    format: 'qcow2',
  }));
  const timeoutMs = task.edit?.timeout_ms ?? RESTORE_MS;
  try {
    const isEmulated = isEmulatedIn(adapted.xml);
    note(editNote(await parts.editDisks(disks, edit.wish, { signal, timeoutMs, isEmulated })));
    return { xml: edit.xml };
  } catch (error) {
    const failure = failureIn(error);
    if (signal.aborted || failure === undefined) throw error;
    if (task.edit?.on_failure !== 'continue') throw failedEdit(task, failure);
    await parts.remake();
    const said = notEdited(failure);
    note(said);
    return { xml: adapted.xml, said };
  }
}

function failedEdit(task: RecoverTask, failure: Failure): Failure {
  const what = task.edit === undefined ? 'put its addresses back' : 'give it its addresses';
  const { hint } = failure;
  return new Failure(failure.code, `recover ${task.name}: ${what} by its disks: ${failure.message}`, {
    cause: failure,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** Throws not_found, usage_invalid. */
function wishOf(
  name: string,
  { addresses, host_name: hostName }: NonNullable<RecoverTask['edit']>,
  { macs, before }: { macs: readonly string[]; before: readonly string[] },
): OfflineWish {
  const nics = addresses.map(({ nic, ...wanted }): OfflineNic => {
    const place =
      typeof nic === 'number' ? nic : before.indexOf(nic) >= 0 ? before.indexOf(nic) : macs.indexOf(nic);
    const mac = macs[place];
    if (mac === undefined) {
      throw new Failure('not_found', `VM ${name} has no interface ${nic}`, {
        hint: `Its definition has: ${before.join(', ') || 'none'}.`,
      });
    }
    return { ...wanted, place, mac, macBefore: before[place] || mac };
  });
  if (new Set(nics.map(({ place }) => place)).size < nics.length) {
    throw new Failure('usage_invalid', `an interface of VM ${name} is given addresses twice`);
  }
  return { nics, nicCount: macs.length, hostName };
}
