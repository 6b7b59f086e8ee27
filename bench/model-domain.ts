/** One VM as the agent's fencing sees it through libvirt, without libvirt, for bench/partitions.ts. */
import type { DomainStateName } from '#/libvirt/domain-state.ts';
import { LibvirtCode, LibvirtError } from '#/libvirt/errors.ts';
import { LEDGER_UUID } from '#/manager/site-fixture.ts';
import { EPOCH_NAMESPACE, EPOCH_PREFIX } from '#/recovery/epoch-mark.ts';

export class ModelDomain {
  readonly uuid = LEDGER_UUID;
  readonly name = 'ledger';
  state: DomainStateName = 'shutoff';
  autostart = true;
  /** The epoch mark, as libvirt tells it. */
  metadata: string | undefined;

  async getState() {
    return { state: this.state, reason: 'unknown' };
  }

  async suspend(): Promise<void> {
    if (this.state === 'running') this.state = 'paused';
  }

  async resume(): Promise<void> {
    if (this.state === 'paused') this.state = 'running';
  }

  async destroy(): Promise<void> {
    this.state = 'shutoff';
  }

  async isPersistent(): Promise<boolean> {
    return true;
  }

  async isAutostart(): Promise<boolean> {
    return this.autostart;
  }

  async setAutostart(on: boolean): Promise<void> {
    this.autostart = on;
  }

  async getMetadata(): Promise<string> {
    if (this.metadata !== undefined) return this.metadata;
    const detail = { domain: 0, level: 2, message: 'no metadata', int1: 0, int2: 0 };
    throw new LibvirtError('get metadata', { ...detail, code: LibvirtCode.noDomainMetadata });
  }

  async setMetadata(_where: unknown, text: string | undefined): Promise<void> {
    this.metadata = text;
  }

  /** As libvirt gives a definition to its hooks. */
  xml(): string {
    const prefixed = `<${EPOCH_PREFIX}:claim xmlns:${EPOCH_PREFIX}="${EPOCH_NAMESPACE}"`;
    const mark = this.metadata?.replace('<claim', prefixed) ?? '';
    return `<domain type='qemu'>
  <name>${this.name}</name>
  <uuid>${this.uuid}</uuid>
  <metadata>
    ${mark}
  </metadata>
  <devices>
  </devices>
</domain>
`;
  }
}
