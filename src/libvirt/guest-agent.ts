/**
 * The agent inside a guest, through libvirt.
 *
 * An agent that hangs blocks its domain's agent calls and a worker of the daemon, so no call here waits without a
 * limit: `timeoutSeconds` is kept by the daemon, and the call itself is given up a little later.
 */
import type { CallOptions } from './connection.ts';
import { FREEZE_MOUNTPOINTS_MAX } from './limits.ts';
import { Procedure, QEMU_PROGRAM, QemuProcedure } from './procedures.ts';
import type { Subject } from './remote.ts';
import type { XdrReader, XdrWriter } from './xdr.ts';
import { Failure } from '#/lib/failure.ts';

/** What the daemon gets to report its own timeout, before ours tells less. */
const GRACE_MS = 5000;

/** `timeoutSeconds` is whole seconds, at least 1. */
export type AgentOptions = CallOptions & { timeoutSeconds: number };

export class GuestAgent {
  readonly #subject: Subject;

  constructor(subject: Subject) {
    this.#subject = subject;
  }

  /** A command as JSON (`{"execute":"guest-ping"}`); the reply as JSON, `undefined` for a command without one. */
  command(json: string, options: AgentOptions): Promise<string | undefined> {
    return this.#subject.ask(
      'send a command to the agent of',
      {
        program: QEMU_PROGRAM,
        procedure: QemuProcedure.agentCommand,
        encode: (w) => w.string(json).int(seconds(options)),
        flags: 0,
        decode: (r) => r.optional((reader) => reader.lossyString()),
      },
      withGrace(options),
    );
  }

  /**
   * Freezes file systems, all when no mount point is named, and returns how many. After a `timeout` or an
   * `agentUnresponsive` they may be frozen all the same: thaw, also then.
   */
  async freeze(options: AgentOptions, mountpoints: readonly string[] = []): Promise<number> {
    await this.#setTimeout(options);
    return await this.#fileSystems(
      'freeze the file systems of',
      Procedure.domainFsFreeze,
      mountpoints,
      options,
    );
  }

  /** Thaws what is frozen and returns how many. */
  async thaw(options: AgentOptions): Promise<number> {
    await this.#setTimeout(options);
    return await this.#fileSystems('thaw the file systems of', Procedure.domainFsThaw, [], options);
  }

  /** The freeze and thaw calls carry no limit of their own: it is a setting of the domain, for all agent calls. */
  async #setTimeout(options: AgentOptions): Promise<void> {
    await this.#subject.ask(
      'limit the agent calls of',
      {
        procedure: Procedure.domainAgentSetResponseTimeout,
        encode: (w) => w.int(seconds(options)),
        flags: 0,
        decode: (r) => r.int(),
      },
      withGrace(options),
    );
  }

  #fileSystems(
    verb: string,
    procedure: number,
    mountpoints: readonly string[],
    options: AgentOptions,
  ): Promise<number> {
    if (mountpoints.length > FREEZE_MOUNTPOINTS_MAX) {
      throw new Failure('usage_invalid', `freeze ${mountpoints.length} mount points at once`);
    }
    const encode = (w: XdrWriter): void => {
      w.uint(mountpoints.length);
      for (const mountpoint of mountpoints) w.string(mountpoint);
    };
    const decode = (r: XdrReader): number => r.int();
    return this.#subject.ask(verb, { procedure, encode, flags: 0, decode }, withGrace(options));
  }
}

function seconds(options: AgentOptions): number {
  const { timeoutSeconds } = options;
  if (Number.isSafeInteger(timeoutSeconds) && timeoutSeconds >= 1) return timeoutSeconds;
  throw new Failure(
    'usage_invalid',
    `wait ${timeoutSeconds} s for a guest agent; at least 1 s, whole seconds`,
  );
}

function withGrace(options: AgentOptions): CallOptions {
  return { signal: options.signal, timeoutMs: options.timeoutMs ?? seconds(options) * 1000 + GRACE_MS };
}
