/** Which recovery points are kept, in words. */
import { setSpan } from '#/lib/format.ts';

type Retention = {
  readonly keep_all_ms: number;
  readonly tiers: readonly { readonly every_ms: number; readonly for_ms: number }[];
};

export function retentionText({ keep_all_ms: allMs, tiers }: Retention): string {
  const all = allMs === 0 ? 'the newest' : `all of the last ${setSpan(allMs)}`;
  return [
    all,
    ...tiers.map((tier) => `one every ${setSpan(tier.every_ms)} for ${setSpan(tier.for_ms)}`),
  ].join(', ');
}
