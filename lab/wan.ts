/**
 * The links between sites: a veth pair for each two of them, with both ends inside the sites.
 *
 * A site has one address, 10.213.N.1, on all its links, so nothing in the sites' configuration knows who is
 * linked to whom. A cut link is one whose interface is down: packets vanish, and no connection is told.
 * This kernel has no netem: rates are tbf's, loss is nftables' random numbers.
 */
import { Failure } from '#/lib/failure.ts';
import { run } from './command.ts';
import { networkPath } from './namespace.ts';

/** One end of a link. */
export interface LinkEnd {
  readonly network: string;
  readonly site: string;
  readonly number: number;
}

export interface LinkLimits {
  readonly bitsPerSecond?: number | undefined;
  /** Of packets in each direction, 0 to 1. */
  readonly lossRatio?: number | undefined;
}

/** tbf's bucket: at least a whole segmentation-offload packet, else large ones never pass. */
const BURST_BYTES = 131_072;
const QUEUE_MS = 100;
const LOSS_STEPS = 100_000;

export function siteAddress(number: number): string {
  return `10.213.${number}.1`;
}

/** Interface names have at most 15 characters; sites' names are at most 10. */
function interfaceTo(site: string): string {
  return `wan-${site}`;
}

export async function createLink(a: LinkEnd, b: LinkEnd): Promise<void> {
  if (await hasLink(a, b)) return;
  const make = ['link', 'add', interfaceTo(b.site), 'netns', a.network, 'type', 'veth'];
  await run(['ip', ...make, 'peer', 'name', interfaceTo(a.site), 'netns', b.network]);
  for (const [near, far] of [
    [a, b],
    [b, a],
  ] as const) {
    const device = interfaceTo(far.site);
    const ends = ['local', siteAddress(near.number), 'peer', `${siteAddress(far.number)}/32`];
    await inside(near, ['ip', 'address', 'add', ...ends, 'dev', device]);
    await inside(near, ['ip', 'link', 'set', device, 'up']);
  }
}

async function hasLink(a: LinkEnd, b: LinkEnd): Promise<boolean> {
  const show = await run(enter(a, ['ip', 'link', 'show', interfaceTo(b.site)]), { allowFailure: true });
  return show.code === 0;
}

export async function cutLink(a: LinkEnd, b: LinkEnd): Promise<void> {
  await inside(a, ['ip', 'link', 'set', interfaceTo(b.site), 'down']);
}

/** Up again, with no limits. */
export async function restoreLink(a: LinkEnd, b: LinkEnd): Promise<void> {
  await clearLimits(a, b);
  await inside(a, ['ip', 'link', 'set', interfaceTo(b.site), 'up']);
}

/** Replaces the link's limits; what is not given is unlimited. Both directions are limited alike. */
export async function limitLink(a: LinkEnd, b: LinkEnd, limits: LinkLimits): Promise<void> {
  await clearLimits(a, b);
  for (const [near, far] of [
    [a, b],
    [b, a],
  ] as const) {
    const device = interfaceTo(far.site);
    if (limits.bitsPerSecond !== undefined) {
      const bucket = [
        'rate',
        `${limits.bitsPerSecond}bit`,
        'burst',
        String(BURST_BYTES),
        'latency',
        `${QUEUE_MS}ms`,
      ];
      await inside(near, ['tc', 'qdisc', 'replace', 'dev', device, 'root', 'tbf', ...bucket]);
    }
    if (limits.lossRatio !== undefined && limits.lossRatio > 0) {
      await run(enter(near, ['nft', '-f', '-']), { input: lossRules(device, limits.lossRatio) });
    }
  }
}

function lossRules(device: string, ratio: number): string {
  // numgen refuses a bound that is not below its modulus.
  const some = ratio >= 1 ? '' : `numgen random mod ${LOSS_STEPS} < ${Math.round(ratio * LOSS_STEPS)} `;
  return `table inet ${tableFor(device)} {
  chain arriving {
    type filter hook input priority filter;
    iifname "${device}" ${some}drop
  }
}
`;
}

function tableFor(device: string): string {
  return `loss_${device.replaceAll('-', '_')}`;
}

async function clearLimits(a: LinkEnd, b: LinkEnd): Promise<void> {
  for (const [near, far] of [
    [a, b],
    [b, a],
  ] as const) {
    const device = interfaceTo(far.site);
    // Each fails when there is nothing to remove.
    await run(enter(near, ['tc', 'qdisc', 'delete', 'dev', device, 'root']), { allowFailure: true });
    await run(enter(near, ['nft', 'delete', 'table', 'inet', tableFor(device)]), { allowFailure: true });
  }
}

/** "10mbit", "512kbit", "1gbit" or plain bits per second. */
export function parseRate(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(k|m|g)?(?:bit)?$/i.exec(text);
  const scale = { k: 1e3, m: 1e6, g: 1e9, '': 1 }[(match?.[2] ?? '').toLowerCase()];
  const rate = Math.round(Number(match?.[1]) * (scale ?? Number.NaN));
  // tbf sends a full bucket at once, so a rate below one bucket in ten seconds would not be a rate.
  if (Number.isFinite(rate) && rate >= 100_000 && rate <= 100e9) return rate;
  throw new Failure('usage_invalid', `"${text}" is no rate`, {
    hint: 'Give bits per second from 100kbit to 100gbit, such as 20mbit.',
  });
}

/** "2%", "0.5%" or a ratio such as 0.02. */
export function parseLoss(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(%?)$/.exec(text);
  const ratio = Number(match?.[1]) / (match?.[2] === '%' ? 100 : 1);
  if (ratio >= 0 && ratio <= 1) return ratio;
  throw new Failure('usage_invalid', `"${text}" is no loss`, {
    hint: 'Give a share of the packets, such as 2%.',
  });
}

function enter(end: LinkEnd, argv: readonly string[]): string[] {
  return ['nsenter', `--net=${networkPath(end.network)}`, '--', ...argv];
}

async function inside(end: LinkEnd, argv: readonly string[]): Promise<void> {
  await run(enter(end, argv));
}
