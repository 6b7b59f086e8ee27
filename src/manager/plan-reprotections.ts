/**
 * Protecting all VMs that a run of a plan brought up here, back to the sites that they came from (docs/failback.md).
 *
 * The intents of all of them are recorded in one transaction before any other site is asked, and are asked for until
 * that site answers (protections.ts): neither a manager that dies nor a site that is away leaves some of them out.
 */
import type { RunReprotection, RunReprotectionVm } from '#/api/reprotections.ts';
import { failureIn } from '#/lib/failure.ts';
import { failureFields } from '#/lib/log.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import { checkIsOver, findMove, movedHere, nothingHere, type MovedHere } from './moved-vms.ts';
import type { Peers } from './peers.ts';
import { problemOf } from './problem.ts';
import { checkVm, chooseDisks } from './protection-check.ts';
import type { Protections } from './protections.ts';
import { recordReprotection } from './record-reprotection.ts';
import { replicatedKeys } from './reprotections.ts';
import type { PeerRow } from './store/peer-store.ts';
import type { Protection } from './store/protection-store.ts';
import type { Run } from './store/run-store.ts';

type Parts = { peers: Peers; claims: Claims; protections: Protections };
type Standing = MovedHere & { protection: Protection | undefined };

export class PlanReprotections {
  readonly #context: Context;
  readonly #parts: Parts;

  constructor(context: Context, parts: Parts) {
    this.#context = context;
    this.#parts = parts;
  }

  /** Throws, with nothing changed at any site, when something speaks against it. Asking again changes nothing. */
  async start(which: string): Promise<RunReprotection> {
    const { changes, db } = this.#context;
    const { protections } = this.#parts;
    const run = await findMove(this.#context, which);
    checkIsOver(run);
    const standing = await this.#standing(run);
    const here = standing.filter(({ isHere, job }) => isHere && job === undefined);
    if (here.length === 0) throw nothingHere(run, standing);
    const wanted = here.filter(({ protection }) => needsProtection(protection));
    const peers = await this.#peersOf(wanted);
    const intents = wanted.map((each) => this.#intent(each));
    await db.transaction().execute(async (at) => {
      for (const intent of intents) await recordReprotection(at, this.#context, intent);
    });
    for (const { replica } of wanted) protections.forgetRefusal(replica!.vm_uuid, replica!.source_site_id);
    changes.notify('orders');
    await Promise.all(peers.map((peer) => this.#ask(peer)));
    return this.#view(run);
  }

  /** How each VM of the run stands. */
  async show(which: string): Promise<RunReprotection> {
    return this.#view(await findMove(this.#context, which));
  }

  async #standing(run: Run): Promise<Standing[]> {
    const protections = await this.#parts.protections.list();
    return (await movedHere(this.#context, this.#parts.claims, run)).map((each) => {
      const { vmUuid, sourceSiteId } = each.vm;
      const protection = protections.find(
        (one) => one.vm_uuid === vmUuid && one.target_site_id === sourceSiteId,
      );
      return { ...each, protection };
    });
  }

  async #peersOf(wanted: readonly Standing[]): Promise<PeerRow[]> {
    const ids = new Set(wanted.map(({ vm }) => vm.sourceSiteId));
    return Promise.all([...ids].map((id) => this.#parts.peers.find(id)));
  }

  /** What is recorded of a VM; throws what its host says against it. */
  #intent({ replica }: Standing): Parameters<typeof recordReprotection>[2] {
    const { agent, vm } = this.#context.inventory.findVm(replica!.vm_uuid);
    checkVm(vm);
    const disks = replicatedKeys(replica!, vm);
    chooseDisks(vm, disks);
    return { replicaId: replica!.id, vmName: vm.name, hostId: agent.id, disks };
  }

  /** What the other site says is kept by the protections, and shown from there. */
  async #ask(peer: PeerRow): Promise<void> {
    try {
      await this.#parts.protections.reconcile(peer);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      this.#context.log.info('reprotect.site_silent', { site: peer.site_name, ...failureFields(error) });
    }
  }

  async #view(run: Run): Promise<RunReprotection> {
    const peers = await this.#parts.peers.list();
    const vms = (await this.#standing(run)).map((each): RunReprotectionVm => {
      const { vm, protection } = each;
      const siteName = peers.find(({ site_id: id }) => id === vm.sourceSiteId)?.site_name;
      const failure =
        protection === undefined
          ? this.#parts.protections.refusalOf(vm.vmUuid, vm.sourceSiteId)
          : this.#parts.protections.failureOf(protection.id);
      return {
        vm_uuid: vm.vmUuid,
        vm_name: vm.vmName,
        site_id: vm.sourceSiteId,
        site_name: siteName ?? vm.sourceSiteId,
        state: stateOf(each),
        protection_id: protection?.id ?? null,
        rpo_ms: protection?.rpo_ms ?? null,
        failure: failure === undefined ? null : problemOf(failure),
      };
    });
    return { run_id: run.id, plan: run.plan.planName, vms };
  }
}

function stateOf({ isHere, job, protection }: Standing): RunReprotectionVm['state'] {
  if (!isHere) return 'not_here';
  if (job !== undefined) return 'recovering';
  if (needsProtection(protection)) return 'unprotected';
  const state = protection!.state;
  return state === 'removing' || state === 'superseded' ? 'unprotected' : state;
}

/** What was superseded is the protection from before the VM moved, the other way. */
function needsProtection(protection: Protection | undefined): boolean {
  return protection === undefined || protection.state === 'superseded';
}
