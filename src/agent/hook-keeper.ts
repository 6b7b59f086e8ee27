/**
 * Keeps the start hook in place and at work, and says which of that is so: after each connection to libvirt, since a
 * daemon that was started anew may have found the hook or not, and now and then.
 */
import type { StartHookReport } from '#/control/reports.ts';
import type { Clock } from '#/lib/clock.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { FenceStore } from './fence-store.ts';
import { failureReport } from './protection.ts';
import { installHook, isHookAtWork, type StartHookOptions } from './start-hook.ts';
import { targetHost } from './target-host.ts';

/** libvirt answers a reload before it has looked for hooks. */
const RELOAD_TRIES = 20;
const RELOAD_TRY_MS = 100;

export type HookKeeperParts = {
  hook: StartHookOptions;
  store: Pick<FenceStore, 'check'>;
  /** Asks the daemon to look for hooks; false when there is nobody to ask. */
  reload: () => Promise<boolean>;
  clock: Clock;
  log: Log;
};

export class HookKeeper {
  readonly #parts: HookKeeperParts;
  #report: StartHookReport = { is_working: false, checked_ms: null, failure: null };

  constructor(parts: HookKeeperParts) {
    this.#parts = parts;
  }

  get report(): StartHookReport {
    return this.#report;
  }

  /** Puts the hook in place and sees whether it works. Never throws a Failure: the report has it. */
  async look(libvirt: Libvirt, signal: AbortSignal): Promise<void> {
    const { clock, log, hook } = this.#parts;
    let failure: Failure | undefined;
    try {
      failure = await this.#ensure(libvirt, signal);
    } catch (error) {
      failure = failureIn(error);
      if (failure === undefined || signal.aborted) throw error;
    }
    const wasWorking = this.#report.is_working;
    this.#report = {
      is_working: failure === undefined,
      checked_ms: clock.now(),
      failure: failure === undefined ? null : failureReport(failure),
    };
    if (failure !== undefined) log.warning('start_hook.idle', failureFields(failure));
    else if (!wasWorking) log.info('start_hook.works', { directory: hook.hookDirectory });
  }

  async #ensure(libvirt: Libvirt, signal: AbortSignal): Promise<Failure | undefined> {
    const { clock, hook, reload, store } = this.#parts;
    await installHook(hook);
    const { domainTypes } = await targetHost(libvirt);
    const type = domainTypes.includes('kvm') ? 'kvm' : 'qemu';
    if (await isHookAtWork(libvirt, type, store)) return undefined;
    if (await reload()) {
      for (let i = 0; i < RELOAD_TRIES; i++) {
        await clock.sleep(RELOAD_TRY_MS, signal);
        if (await isHookAtWork(libvirt, type, store)) return undefined;
      }
    }
    return new Failure(
      'libvirt_error',
      `libvirt does not run the start hook in ${hook.hookDirectory}/qemu.d`,
      {
        hint:
          'A daemon that started before the hook was there finds it when it is restarted: systemctl restart libvirtd ' +
          '(or virtqemud); running VMs go on. Until then a start of a copy that has yielded is undone, not refused.',
      },
    );
  }
}
