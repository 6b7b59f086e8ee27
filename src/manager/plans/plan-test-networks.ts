/** The router between the networks of a plan's test: one gateway for each, in subnets that are apart. Pure. */
import type { PlanDocument } from '#/api/plans.ts';
import { contains, overlap, parsePrefix, type IpPrefix } from '#/recovery/ip-address.ts';
import type { Findings } from './findings.ts';

export function checkTestNetworks({ test }: PlanDocument, findings: Findings): void {
  const router = Object.entries(test?.router ?? {});
  const add = (message: string, hint: string, at: readonly string[]): void =>
    findings.error({ code: 'usage_invalid', message, hint, at: ['plan', 'test', 'router', ...at] });
  if (router.length > 0 && test?.networks !== 'each') {
    add('a test with one network for all has nothing to route', 'Add "networks: each" to "test".', []);
  }
  const subnets: { network: string; gateway: IpPrefix }[] = [];
  for (const [network, text] of router) {
    const gateway = parsePrefix(text);
    if (gateway === undefined) {
      add(`"${text}" is no gateway with a prefix length`, 'Write one such as 10.2.0.1/24.', [network]);
      continue;
    }
    const other = subnets.find((known) => overlap(known.gateway, gateway));
    if (other !== undefined) {
      const isSame = contains(other.gateway, gateway.address);
      const how = isSame ? 'are in one subnet' : 'have subnets that overlap';
      add(
        `networks ${other.network} and ${network} of the test ${how}`,
        'Nothing could be routed between them.',
        [network],
      );
    }
    subnets.push({ network, gateway });
  }
}
