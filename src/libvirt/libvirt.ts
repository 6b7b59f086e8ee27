/**
 * A libvirt daemon, by its own RPC over its Unix socket: the place where everything in this folder starts.
 *
 *     await using libvirt = await Libvirt.connect({ uri: 'qemu:///system' });
 *     for (const domain of await libvirt.listDomains(['running'])) console.log(domain.name, await domain.getState());
 *
 * A lost connection is not repaired here: calls reject with `unreachable` from then on, subscriptions end with it,
 * and whoever owns the connection opens another.
 */
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { authenticate } from './authenticate.ts';
import { RpcConnection } from './connection.ts';
import type { CallOptions } from './connection.ts';
import { Domain } from './domain.ts';
import type { DomainEventKind } from './events.ts';
import {
  DefineFlag,
  flagBits,
  ListDomainsFlag,
  ListNetworksFlag,
  StartFlag,
  StatsFlag,
  StatsOptionFlag,
} from './flags.ts';
import type { FlagNames } from './flags.ts';
import type { KeepaliveOptions } from './keepalive.ts';
import { KEEPALIVE_COUNT, KEEPALIVE_INTERVAL_MS, LIST_MAX, STATS_PARAMETERS_MAX } from './limits.ts';
import { Network } from './network.ts';
import { Procedure } from './procedures.ts';
import { nothing, Remote, string } from './remote.ts';
import type { Request } from './remote.ts';
import {
  decodeDomainRef,
  decodeNetworkRef,
  decodeTypedParameters,
  encodeDomainRef,
  parseUuid,
} from './remote-types.ts';
import type { DomainRef, NetworkRef, TypedValue } from './remote-types.ts';
import { Subscription } from './subscription.ts';
import type { SubscribeOptions } from './subscription.ts';
import { connectUnixSocket } from './unix-socket.ts';
import type { XdrReader, XdrWriter } from './xdr.ts';

export const DEFAULT_SOCKET_PATH = '/run/libvirt/libvirt-sock';

const CONNECT_READ_ONLY = 1;
const MODEL_BYTES = 32;

export type ConnectOptions = {
  socketPath?: string;
  /** The driver: `qemu:///system` when absent. */
  uri?: string;
  readOnly?: boolean;
  clock?: Clock;
  callTimeoutMs?: number;
  /** Signs of life; `false` asks for none. */
  keepalive?: KeepaliveOptions | false;
  signal?: AbortSignal;
};

/** libvirt's way of writing 9.1.2 is 9001002. */
export type Version = { major: number; minor: number; release: number };

export type NodeDescription = {
  model: string;
  memoryBytes: number;
  cpus: number;
  mhz: number;
  numaNodes: number;
  socketsPerNode: number;
  coresPerSocket: number;
  threadsPerCore: number;
};

/** What the domain capabilities are asked for; libvirt's defaults where absent. */
export type CapabilitiesQuery = { emulator?: string; arch?: string; machine?: string; virtType?: string };

export type DomainStats = { domain: DomainRef; parameters: Map<string, TypedValue> };

export class Libvirt implements AsyncDisposable {
  readonly #remote: Remote;

  private constructor(remote: Remote) {
    this.#remote = remote;
  }

  /** Connects, authenticates and opens the driver. Throws `unreachable`, `unauthenticated`, LibvirtError. */
  static async connect(options: ConnectOptions = {}): Promise<Libvirt> {
    const { socketPath = DEFAULT_SOCKET_PATH, uri = 'qemu:///system', clock = systemClock, signal } = options;
    const socket = await connectUnixSocket(socketPath, signal);
    const keepalive = options.keepalive ?? { intervalMs: KEEPALIVE_INTERVAL_MS, count: KEEPALIVE_COUNT };
    const rpc = new RpcConnection(socket, {
      clock,
      ...(options.callTimeoutMs === undefined ? {} : { callTimeoutMs: options.callTimeoutMs }),
      ...(keepalive === false ? {} : { keepalive }),
    });
    const remote = new Remote(rpc);
    try {
      await authenticate(remote, { signal });
      const flags = options.readOnly === true ? CONNECT_READ_ONLY : 0;
      const encode = (w: XdrWriter): XdrWriter => w.optionalString(uri).uint(flags);
      await remote.call(
        { what: `open ${uri}`, procedure: Procedure.connectOpen, encode, decode: nothing },
        { signal },
      );
    } catch (error) {
      rpc.close();
      throw error;
    }
    return new Libvirt(remote);
  }

  /** Resolves with the reason when the connection has ended. */
  get ended(): Promise<Failure> {
    return this.#remote.rpc.ended;
  }

  /** Says goodbye and closes; what is under way rejects with `cancelled`. */
  async [Symbol.asyncDispose](): Promise<void> {
    const request = { what: 'close the connection', procedure: Procedure.connectClose, decode: nothing };
    await this.#remote.call(request, { timeoutMs: 1000 }).catch(() => undefined);
    this.#remote.rpc.close();
  }

  getHostname(options?: CallOptions): Promise<string> {
    return this.#ask('read the name of the host', Procedure.connectGetHostname, string, options);
  }

  /** Of the driver: `QEMU`, `TEST`. */
  getType(options?: CallOptions): Promise<string> {
    return this.#ask('read the type of the driver', Procedure.connectGetType, string, options);
  }

  getLibvirtVersion(options?: CallOptions): Promise<Version> {
    return this.#ask('read the version of libvirt', Procedure.connectGetLibVersion, decodeVersion, options);
  }

  /** Of QEMU. */
  getHypervisorVersion(options?: CallOptions): Promise<Version> {
    return this.#ask(
      'read the version of the hypervisor',
      Procedure.connectGetVersion,
      decodeVersion,
      options,
    );
  }

  /** What the host can do, as XML. */
  getCapabilities(options?: CallOptions): Promise<string> {
    return this.#ask('read the capabilities of the host', Procedure.connectGetCapabilities, string, options);
  }

  /** What a domain of that kind can have here, as XML. */
  getDomainCapabilities(query: CapabilitiesQuery = {}, options?: CallOptions): Promise<string> {
    return this.#remote.call(
      {
        what: 'read the capabilities for domains',
        procedure: Procedure.connectGetDomainCapabilities,
        encode: (w) => {
          const { emulator, arch, machine, virtType } = query;
          w.optionalString(emulator)
            .optionalString(arch)
            .optionalString(machine)
            .optionalString(virtType)
            .uint(0);
        },
        decode: string,
      },
      options,
    );
  }

  getNode(options?: CallOptions): Promise<NodeDescription> {
    return this.#ask('read the description of the host', Procedure.nodeGetInfo, decodeNode, options);
  }

  getFreeMemoryBytes(options?: CallOptions): Promise<number> {
    const decode = (r: XdrReader): number => r.uhyper();
    return this.#ask('read the free memory of the host', Procedure.nodeGetFreeMemory, decode, options);
  }

  /** All domains, or those that match: flags of one kind are alternatives, of different kinds conditions. */
  async listDomains(flags: FlagNames<typeof ListDomainsFlag> = [], options?: CallOptions): Promise<Domain[]> {
    const request: Request<DomainRef[]> = {
      what: 'list domains',
      procedure: Procedure.connectListAllDomains,
      encode: (w) => w.int(1).uint(flagBits(ListDomainsFlag, flags)),
      decode: (r) => listed(r, decodeDomainRef),
    };
    return (await this.#remote.call(request, options)).map((ref) => this.#domain(ref));
  }

  /** Throws libvirt's error `noDomain` when there is none; so do the other look-ups. */
  lookupDomainByUuid(uuid: string, options?: CallOptions): Promise<Domain> {
    const encode = (w: XdrWriter): XdrWriter => w.fixed(parseUuid(uuid));
    const procedure = Procedure.domainLookupByUuid;
    return this.#domainBy({ what: `find domain ${uuid}`, procedure, encode }, options);
  }

  lookupDomainByName(name: string, options?: CallOptions): Promise<Domain> {
    const encode = (w: XdrWriter): XdrWriter => w.string(name);
    const procedure = Procedure.domainLookupByName;
    return this.#domainBy({ what: `find domain ${name}`, procedure, encode }, options);
  }

  lookupDomainById(id: number, options?: CallOptions): Promise<Domain> {
    const encode = (w: XdrWriter): XdrWriter => w.int(id);
    const procedure = Procedure.domainLookupById;
    return this.#domainBy({ what: `find the domain with id ${id}`, procedure, encode }, options);
  }

  /** Defines a domain, or changes the definition of the one with that UUID. */
  defineDomain(
    xml: string,
    flags: FlagNames<typeof DefineFlag> = [],
    options?: CallOptions,
  ): Promise<Domain> {
    const encode = (w: XdrWriter): XdrWriter => w.string(xml).uint(flagBits(DefineFlag, flags));
    return this.#domainBy({ what: 'define a domain', procedure: Procedure.domainDefineXml, encode }, options);
  }

  /** Starts a domain that is gone when it stops. */
  createDomain(xml: string, flags: FlagNames<typeof StartFlag> = [], options?: CallOptions): Promise<Domain> {
    const encode = (w: XdrWriter): XdrWriter => w.string(xml).uint(flagBits(StartFlag, flags));
    const procedure = Procedure.domainCreateXml;
    return this.#domainBy({ what: 'create a transient domain', procedure, encode }, options);
  }

  /** Statistics of the named domains, of all when none is named; libvirt's own names (`vcpu.0.time` in ns, ...). */
  getStats(
    kinds: FlagNames<typeof StatsFlag>,
    domains: readonly Domain[] = [],
    flags: FlagNames<typeof StatsOptionFlag> = [],
    options?: CallOptions,
  ): Promise<DomainStats[]> {
    const encode = (w: XdrWriter): void => {
      w.uint(domains.length);
      for (const domain of domains) encodeDomainRef(w, domain.ref);
      w.uint(flagBits(StatsFlag, kinds)).uint(flagBits(StatsOptionFlag, flags));
    };
    const decode = (r: XdrReader): DomainStats[] => r.array(LIST_MAX, decodeStats);
    const procedure = Procedure.connectGetAllDomainStats;
    return this.#remote.call({ what: 'read statistics of domains', procedure, encode, decode }, options);
  }

  async listNetworks(
    flags: FlagNames<typeof ListNetworksFlag> = [],
    options?: CallOptions,
  ): Promise<Network[]> {
    const request: Request<NetworkRef[]> = {
      what: 'list networks',
      procedure: Procedure.connectListAllNetworks,
      encode: (w) => w.int(1).uint(flagBits(ListNetworksFlag, flags)),
      decode: (r) => listed(r, decodeNetworkRef),
    };
    return (await this.#remote.call(request, options)).map((ref) => new Network(this.#remote, ref));
  }

  /** Throws libvirt's error `noNetwork` when there is none. */
  lookupNetworkByName(name: string, options?: CallOptions): Promise<Network> {
    const encode = (w: XdrWriter): XdrWriter => w.string(name);
    const procedure = Procedure.networkLookupByName;
    return this.#networkBy({ what: `find network ${name}`, procedure, encode }, options);
  }

  lookupNetworkByUuid(uuid: string, options?: CallOptions): Promise<Network> {
    const encode = (w: XdrWriter): XdrWriter => w.fixed(parseUuid(uuid));
    const procedure = Procedure.networkLookupByUuid;
    return this.#networkBy({ what: `find network ${uuid}`, procedure, encode }, options);
  }

  defineNetwork(xml: string, options?: CallOptions): Promise<Network> {
    const encode = (w: XdrWriter): XdrWriter => w.string(xml);
    const procedure = Procedure.networkDefineXml;
    return this.#networkBy({ what: 'define a network', procedure, encode }, options);
  }

  /** Starts a network that is gone when it stops. */
  createNetwork(xml: string, options?: CallOptions): Promise<Network> {
    const encode = (w: XdrWriter): XdrWriter => w.string(xml);
    const procedure = Procedure.networkCreateXml;
    return this.#networkBy({ what: 'create a transient network', procedure, encode }, options);
  }

  /** Events of these kinds from now on; see `subscription.ts` for its ends. */
  subscribe(kinds: readonly DomainEventKind[], options?: SubscribeOptions): Promise<Subscription> {
    return Subscription.open(this.#remote, kinds, options);
  }

  #ask<T>(what: string, procedure: number, decode: (r: XdrReader) => T, options?: CallOptions): Promise<T> {
    return this.#remote.call({ what, procedure, decode }, options);
  }

  async #domainBy(request: Omit<Request<DomainRef>, 'decode'>, options?: CallOptions): Promise<Domain> {
    return this.#domain(await this.#remote.call({ ...request, decode: decodeDomainRef }, options));
  }

  async #networkBy(request: Omit<Request<NetworkRef>, 'decode'>, options?: CallOptions): Promise<Network> {
    return new Network(
      this.#remote,
      await this.#remote.call({ ...request, decode: decodeNetworkRef }, options),
    );
  }

  #domain(ref: DomainRef): Domain {
    return new Domain(this.#remote, ref);
  }
}

/** A list and, after it, the count that libvirt's API returns. */
function listed<T>(reader: XdrReader, decode: (r: XdrReader) => T): T[] {
  const elements = reader.array(LIST_MAX, decode);
  reader.uint();
  return elements;
}

function decodeStats(reader: XdrReader): DomainStats {
  return { domain: decodeDomainRef(reader), parameters: decodeTypedParameters(reader, STATS_PARAMETERS_MAX) };
}

function decodeVersion(reader: XdrReader): Version {
  const version = reader.uhyper();
  return { major: Math.floor(version / 1e6), minor: Math.floor(version / 1e3) % 1e3, release: version % 1e3 };
}

/** The model is an array of 32 characters, each of which XDR carries as an int. */
function decodeNode(reader: XdrReader): NodeDescription {
  const model = Array.from({ length: MODEL_BYTES }, () => reader.int() & 0xff);
  const end = model.indexOf(0);
  return {
    model: String.fromCharCode(...model.slice(0, end < 0 ? MODEL_BYTES : end)),
    memoryBytes: reader.uhyper() * 1024,
    cpus: reader.int(),
    mhz: reader.int(),
    numaNodes: reader.int(),
    socketsPerNode: reader.int(),
    coresPerSocket: reader.int(),
    threadsPerCore: reader.int(),
  };
}
