/** One virtual network of a libvirt daemon. */
import type { CallOptions } from './connection.ts';
import { flagBits, NetworkXmlFlag } from './flags.ts';
import type { FlagNames } from './flags.ts';
import { Procedure } from './procedures.ts';
import { string, Subject } from './remote.ts';
import type { Remote } from './remote.ts';
import { encodeNetworkRef } from './remote-types.ts';
import type { NetworkRef } from './remote-types.ts';

export class Network {
  readonly ref: NetworkRef;
  readonly #subject: Subject;

  constructor(remote: Remote, ref: NetworkRef) {
    this.ref = ref;
    this.#subject = new Subject(remote, `network ${ref.name}`, (writer) => encodeNetworkRef(writer, ref));
  }

  get uuid(): string {
    return this.ref.uuid;
  }

  get name(): string {
    return this.ref.name;
  }

  getXml(flags: FlagNames<typeof NetworkXmlFlag> = [], options?: CallOptions): Promise<string> {
    const bits = flagBits(NetworkXmlFlag, flags);
    const ask = { procedure: Procedure.networkGetXml, flags: bits, decode: string };
    return this.#subject.ask('read the definition of', ask, options);
  }

  isActive(options?: CallOptions): Promise<boolean> {
    const ask = { procedure: Procedure.networkIsActive, decode: (r: { int(): number }) => r.int() === 1 };
    return this.#subject.ask('read the state of', ask, options);
  }

  /** Starts a defined network. */
  start(options?: CallOptions): Promise<void> {
    return this.#subject.act('start', Procedure.networkCreate, undefined, options);
  }

  destroy(options?: CallOptions): Promise<void> {
    return this.#subject.act('destroy', Procedure.networkDestroy, undefined, options);
  }

  undefine(options?: CallOptions): Promise<void> {
    return this.#subject.act('undefine', Procedure.networkUndefine, undefined, options);
  }

  setAutostart(isAutostart: boolean, options?: CallOptions): Promise<void> {
    return this.#subject.act(
      'set the autostart of',
      Procedure.networkSetAutostart,
      isAutostart ? 1 : 0,
      options,
    );
  }
}
