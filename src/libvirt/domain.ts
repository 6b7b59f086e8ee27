/**
 * One domain of a libvirt daemon: its life, its definition, its devices, its console.
 *
 * Every method is one call of libvirt's API and throws what `RpcConnection.call` throws. Disks and block jobs are in
 * `block-device.ts`, backups and checkpoints in `domain-backup.ts` and `checkpoint.ts`, the guest's agent in
 * `guest-agent.ts`.
 */
import { Failure } from '#/lib/failure.ts';
import { BlockDevice } from './block-device.ts';
import { DomainCheckpoints } from './checkpoint.ts';
import type { CallOptions } from './connection.ts';
import { DomainBackup } from './domain-backup.ts';
import { domainState } from './domain-state.ts';
import type { DomainState } from './domain-state.ts';
import {
  AffectFlag,
  ConsoleFlag,
  DestroyFlag,
  DeviceFlag,
  DomainXmlFlag,
  flagBits,
  MonitorFlag,
  ShutdownFlag,
  StartFlag,
  UndefineFlag,
} from './flags.ts';
import type { FlagNames } from './flags.ts';
import { GuestAgent } from './guest-agent.ts';
import { DISK_ERRORS_MAX, INTERFACE_ADDRESSES_MAX, INTERFACES_MAX, SCREENSHOT_BYTES_MAX } from './limits.ts';
import { Procedure, QEMU_PROGRAM, QemuProcedure } from './procedures.ts';
import { nothing, string, Subject } from './remote.ts';
import type { Ask, Remote } from './remote.ts';
import { decodeDomainRef, encodeDomainRef } from './remote-types.ts';
import type { DomainRef } from './remote-types.ts';
import type { RpcStream } from './stream.ts';
import type { XdrReader } from './xdr.ts';

/** The kind of metadata that is an element of the caller's own XML namespace. */
const METADATA_ELEMENT = 2;

export type Screenshot = { mime: string; bytes: Uint8Array };

/** Metadata of an application: an element in the namespace `uri`, written with the prefix `key`. */
export type MetadataKey = { uri: string; key: string };

const DISK_ERRORS = ['none', 'unspecified', 'no-space'] as const;

const ADDRESS_SOURCES = ['lease', 'agent', 'arp'] as const;
export type AddressSource = (typeof ADDRESS_SOURCES)[number];

/** An interface as the guest, or who gave it its address, names it. */
export type GuestInterfaceAddresses = {
  name: string;
  mac: string | undefined;
  addresses: { family: 'ipv4' | 'ipv6'; address: string; prefix: number }[];
};

/** Why the guest is stopped by a disk. */
export type DiskError = { target: string; error: (typeof DISK_ERRORS)[number] | 'unknown' };

export class Domain {
  readonly ref: DomainRef;
  readonly backup: DomainBackup;
  readonly checkpoints: DomainCheckpoints;
  readonly agent: GuestAgent;
  readonly #subject: Subject;

  constructor(remote: Remote, ref: DomainRef) {
    this.ref = ref;
    this.#subject = new Subject(remote, `domain ${ref.name}`, (writer) => encodeDomainRef(writer, ref));
    this.backup = new DomainBackup(this.#subject);
    this.checkpoints = new DomainCheckpoints(this.#subject);
    this.agent = new GuestAgent(this.#subject);
  }

  get uuid(): string {
    return this.ref.uuid;
  }

  get name(): string {
    return this.ref.name;
  }

  /** A disk by its target (`vda`) or, where libvirt allows it, its source path. */
  disk(target: string): BlockDevice {
    return new BlockDevice(this.#subject, target);
  }

  /** The definition: of the running domain, or with `inactive` what it will be at its next start. */
  getXml(flags: FlagNames<typeof DomainXmlFlag> = [], options?: CallOptions): Promise<string> {
    const bits = flagBits(DomainXmlFlag, flags);
    const ask = { procedure: Procedure.domainGetXml, flags: bits, decode: string };
    return this.#subject.ask('read the definition of', ask, options);
  }

  getState(options?: CallOptions): Promise<DomainState> {
    const decode = (r: XdrReader): DomainState => domainState(r.int(), r.int());
    const ask = { procedure: Procedure.domainGetState, flags: 0, decode };
    return this.#subject.ask('read the state of', ask, options);
  }

  /** The disks whose last I/O error stopped the guest; QEMU goes on telling it after the guest was resumed. */
  getDiskErrors(options?: CallOptions): Promise<DiskError[]> {
    const ask: Ask<DiskError[]> = {
      procedure: Procedure.domainGetDiskErrors,
      encode: (w) => w.uint(DISK_ERRORS_MAX),
      flags: 0,
      decode: (r) => {
        const decode = (e: XdrReader): DiskError => ({
          target: e.string(),
          error: DISK_ERRORS[e.int()] ?? 'unknown',
        });
        const errors = r.array(DISK_ERRORS_MAX, decode);
        r.int();
        return errors;
      },
    };
    return this.#subject.ask('read the disk errors of', ask, options);
  }

  /**
   * The guest's addresses as told by the DHCP leases of libvirt's networks, by the agent in the guest, or by the
   * host's ARP table. Only the agent knows all, and may take long: give a time limit.
   */
  getInterfaceAddresses(source: AddressSource, options?: CallOptions): Promise<GuestInterfaceAddresses[]> {
    const ask: Ask<GuestInterfaceAddresses[]> = {
      procedure: Procedure.domainInterfaceAddresses,
      encode: (w) => w.uint(ADDRESS_SOURCES.indexOf(source)),
      flags: 0,
      decode: (r) => r.array(INTERFACES_MAX, decodeInterface),
    };
    return this.#subject.ask('read the addresses of', ask, options);
  }

  isPersistent(options?: CallOptions): Promise<boolean> {
    const ask = { procedure: Procedure.domainIsPersistent, decode: truth };
    return this.#subject.ask('read the persistence of', ask, options);
  }

  /** Starts a defined domain; the returned one carries the new id. */
  async start(flags: FlagNames<typeof StartFlag> = [], options?: CallOptions): Promise<Domain> {
    const bits = flagBits(StartFlag, flags);
    const ask = { procedure: Procedure.domainCreate, flags: bits, decode: decodeDomainRef };
    return new Domain(this.#subject.remote, await this.#subject.ask('start', ask, options));
  }

  /** Asks the guest to shut down and returns at once. */
  shutdown(flags: FlagNames<typeof ShutdownFlag> = [], options?: CallOptions): Promise<void> {
    return this.#subject.act('shut down', Procedure.domainShutdown, flagBits(ShutdownFlag, flags), options);
  }

  /** Ends the guest at once. `graceful`: never by SIGKILL, so that QEMU writes its bitmaps; fails when it hangs. */
  destroy(flags: FlagNames<typeof DestroyFlag> = [], options?: CallOptions): Promise<void> {
    return this.#subject.act('destroy', Procedure.domainDestroy, flagBits(DestroyFlag, flags), options);
  }

  suspend(options?: CallOptions): Promise<void> {
    return this.#subject.act('suspend', Procedure.domainSuspend, undefined, options);
  }

  resume(options?: CallOptions): Promise<void> {
    return this.#subject.act('resume', Procedure.domainResume, undefined, options);
  }

  reset(options?: CallOptions): Promise<void> {
    return this.#subject.act('reset', Procedure.domainReset, 0, options);
  }

  undefine(flags: FlagNames<typeof UndefineFlag> = [], options?: CallOptions): Promise<void> {
    return this.#subject.act('undefine', Procedure.domainUndefine, flagBits(UndefineFlag, flags), options);
  }

  isAutostart(options?: CallOptions): Promise<boolean> {
    const ask = { procedure: Procedure.domainGetAutostart, decode: truth };
    return this.#subject.ask('read the autostart of', ask, options);
  }

  setAutostart(isAutostart: boolean, options?: CallOptions): Promise<void> {
    return this.#subject.act(
      'set the autostart of',
      Procedure.domainSetAutostart,
      isAutostart ? 1 : 0,
      options,
    );
  }

  attachDevice(xml: string, flags: FlagNames<typeof DeviceFlag> = [], options?: CallOptions): Promise<void> {
    const procedure = Procedure.domainAttachDevice;
    return this.#changeDevice('attach a device to', { procedure, xml, flags }, options);
  }

  /** The guest may take its time to let go: wait for the event `device-removed`. */
  detachDevice(xml: string, flags: FlagNames<typeof DeviceFlag> = [], options?: CallOptions): Promise<void> {
    const procedure = Procedure.domainDetachDevice;
    return this.#changeDevice('detach a device of', { procedure, xml, flags }, options);
  }

  updateDevice(xml: string, flags: FlagNames<typeof DeviceFlag> = [], options?: CallOptions): Promise<void> {
    const procedure = Procedure.domainUpdateDevice;
    return this.#changeDevice('change a device of', { procedure, xml, flags }, options);
  }

  /** The element of that namespace. Throws libvirt's error `noDomainMetadata` when there is none. */
  getMetadata(uri: string, flags: FlagNames<typeof AffectFlag> = [], options?: CallOptions): Promise<string> {
    return this.#subject.ask(
      'read the metadata of',
      {
        procedure: Procedure.domainGetMetadata,
        encode: (w) => w.int(METADATA_ELEMENT).optionalString(uri),
        flags: flagBits(AffectFlag, flags),
        decode: string,
      },
      options,
    );
  }

  /** Replaces the element of that namespace; `undefined` removes it. */
  async setMetadata(
    where: MetadataKey,
    xml: string | undefined,
    flags: FlagNames<typeof AffectFlag> = [],
    options?: CallOptions,
  ): Promise<void> {
    await this.#subject.ask(
      'write the metadata of',
      {
        procedure: Procedure.domainSetMetadata,
        encode: (w) =>
          w.int(METADATA_ELEMENT).optionalString(xml).optionalString(where.key).optionalString(where.uri),
        flags: flagBits(AffectFlag, flags),
        decode: nothing,
      },
      options,
    );
  }

  /** A picture of the first screen of display `screen`. */
  async screenshot(screen = 0, options: CallOptions = {}): Promise<Screenshot> {
    const request = this.#subject.request('take a picture of the screen of', {
      procedure: Procedure.domainScreenshot,
      encode: (w) => w.uint(screen),
      flags: 0,
      decode: (r) => r.optional(string),
    });
    const { value, stream } = await this.#subject.remote.callWithStream(request, options);
    await using picture = stream;
    const abort = (): void =>
      picture.cancel(
        new Failure('cancelled', `${request.what}: cancelled`, { cause: options.signal?.reason }),
      );
    options.signal?.addEventListener('abort', abort, { once: true });
    try {
      return {
        mime: value ?? 'application/octet-stream',
        bytes: await picture.readAll(SCREENSHOT_BYTES_MAX),
      };
    } finally {
      options.signal?.removeEventListener('abort', abort);
    }
  }

  /**
   * The bytes of a serial port or console in both directions; the first one when `device` (an alias) is absent.
   * A guest that does not read what is written holds up the whole connection: write on a connection of its own.
   */
  async openConsole(
    device?: string,
    flags: FlagNames<typeof ConsoleFlag> = [],
    options?: CallOptions,
  ): Promise<RpcStream> {
    const request = this.#subject.request('open the console of', {
      procedure: Procedure.domainOpenConsole,
      encode: (w) => w.optionalString(device),
      flags: flagBits(ConsoleFlag, flags),
      decode: nothing,
    });
    return (await this.#subject.remote.callWithStream(request, options)).stream;
  }

  /** A command of QEMU's monitor as JSON, or with `hmp` for people; libvirt marks the domain as tainted by it. */
  monitorCommand(
    command: string,
    flags: FlagNames<typeof MonitorFlag> = [],
    options?: CallOptions,
  ): Promise<string> {
    return this.#subject.ask(
      'send a monitor command to',
      {
        program: QEMU_PROGRAM,
        procedure: QemuProcedure.monitorCommand,
        encode: (w) => w.string(command),
        flags: flagBits(MonitorFlag, flags),
        decode: string,
      },
      options,
    );
  }

  async #changeDevice(
    verb: string,
    change: { procedure: number; xml: string; flags: FlagNames<typeof DeviceFlag> },
    options?: CallOptions,
  ): Promise<void> {
    const flags = flagBits(DeviceFlag, change.flags);
    const { procedure, xml } = change;
    await this.#subject.ask(
      verb,
      { procedure, encode: (w) => w.string(xml), flags, decode: nothing },
      options,
    );
  }
}

function decodeInterface(reader: XdrReader): GuestInterfaceAddresses {
  return {
    name: reader.lossyString(),
    mac: reader.optional((r) => r.lossyString())?.toLowerCase(),
    addresses: reader.array(INTERFACE_ADDRESSES_MAX, (r) => ({
      family: r.int() === 0 ? 'ipv4' : 'ipv6',
      address: r.lossyString(),
      prefix: r.uint(),
    })),
  };
}

function truth(reader: XdrReader): boolean {
  return reader.int() === 1;
}
