/** The agent's configuration (docs/operate/configuration.md), typed and frozen. */
import { absolutePath, type ConfigOf, httpsUrl, oneOf, optional } from '#/lib/config.ts';

export const AGENT_CONFIG = {
  /** Key, certificate, last orders, digest records (0.4 % of the protected disks), how recoveries stand. */
  dataDirectory: absolutePath,
  libvirtSocket: optional(absolutePath, '/run/libvirt/libvirt-sock'),
  /** Disks of recovered VMs. */
  storageDirectory: optional(absolutePath, '/var/lib/libvirt/images'),
  /** Bytes that guests overwrite while a moment is read. */
  scratchDirectory: optional(absolutePath, '/var/lib/antipode/scratch'),
  /** Unix sockets between QEMU and the agent; short, for the length of a socket's path is limited. */
  runDirectory: optional(absolutePath, '/run/antipode'),
  /** Where libvirt keeps the state of software TPMs. */
  tpmDirectory: optional(absolutePath, '/var/lib/libvirt/swtpm'),
  /** libvirt's directory of hooks, as this program sees it. */
  hookDirectory: optional(absolutePath, '/etc/libvirt/hooks'),
  /** What is done with a running copy of a VM that runs at another site. */
  supersededVm: optional(oneOf('pause', 'destroy'), 'pause' as const),
  managerUrl: httpsUrl,
  joinTokenFile: optional(absolutePath, undefined),
};

export type AgentConfig = ConfigOf<typeof AGENT_CONFIG>;
