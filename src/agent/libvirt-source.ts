/**
 * The `Source` of the replication engine over libvirt: moments of a running VM by pull backups (running-moment.ts),
 * of a powered-off one by qemu-nbd (stopped-moment.ts).
 *
 * A moment's time is the wall time just before it was asked for: the disks are at least that young, so an age is
 * never told too low.
 */
import type { Moment, MomentRequest, Source } from '#/replication/source.ts';
import { findState, type LibvirtSourceOptions, type SourceMemory } from './moment-parts.ts';
import { freezeRunning } from './running-moment.ts';
import { freezeStopped } from './stopped-moment.ts';

export class LibvirtSource implements Source {
  readonly #options: LibvirtSourceOptions;
  readonly #memory: SourceMemory = { isScratchClean: false };

  constructor(options: LibvirtSourceOptions) {
    this.#options = options;
  }

  async freeze(request: MomentRequest, signal: AbortSignal): Promise<Moment> {
    const { turns, vm } = this.#options;
    const endTurn = await turns.take(vm.uuid, signal);
    try {
      const known = { options: this.#options, memory: this.#memory };
      const { domain, state } = await findState(known);
      const parts = { ...known, domain, request, endTurn, signal };
      const isOff = state === 'shutoff' || state === 'crashed';
      return isOff ? await freezeStopped(parts) : await freezeRunning(parts);
    } catch (error) {
      endTurn();
      throw error;
    }
  }
}
