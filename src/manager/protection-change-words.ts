/** What a change of a protection comes to, in sentences for people. Pure. */
import type { Retention } from '#/api/common.ts';
import type { PointsLost, ProtectionChangeCheck } from '#/api/protections.ts';
import type { VmReport } from '#/control/reports.ts';
import type { Protection } from './store/protection-store.ts';

export type Changed = Pick<Protection, 'added_disks' | 'disks' | 'retention' | 'rpo_ms' | 'scratch_bytes'>;
export type Known = { lost: PointsLost | null; vm: VmReport | undefined; cycleMs: number | null };
type Words = Pick<ProtectionChangeCheck, 'changes' | 'costs'>;

const MIB = 1024 ** 2;
const UNITS: readonly (readonly [ms: number, unit: string])[] = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'min'],
  [1000, 's'],
];

export function changeWords(before: Protection, after: Changed, known: Known): Words {
  const words: Words = { changes: [], costs: [] };
  rpoWords(words, before, after, known.cycleMs);
  if (JSON.stringify(after.retention) !== JSON.stringify(before.retention)) {
    words.changes.push(`Points kept: ${kept(after.retention)}; until now ${kept(before.retention)}.`);
    words.costs.push(lostWords(known.lost));
  }
  diskWords(words, before, after, known.vm);
  if (after.added_disks !== before.added_disks) {
    words.changes.push(
      after.added_disks === 'replicate'
        ? 'A disk that is added later is replicated.'
        : 'A disk that is added later is reported, and not replicated.',
    );
  }
  if (after.scratch_bytes !== before.scratch_bytes) {
    words.changes.push(
      `A cycle may take ${Math.round(after.scratch_bytes / MIB)} MiB of scratch on the host.`,
    );
    if (after.scratch_bytes < before.scratch_bytes) {
      words.costs.push('A cycle that needs more scratch is given up and begun again.');
    }
  }
  return words;
}

function rpoWords(words: Words, before: Protection, after: Changed, cycleMs: number | null): void {
  if (after.rpo_ms === before.rpo_ms) return;
  words.changes.push(`The RPO is ${span(after.rpo_ms)}; until now ${span(before.rpo_ms)}.`);
  if (after.rpo_ms > before.rpo_ms) {
    words.costs.push('Cycles begin less often: up to that much may be lost in a disaster.');
    return;
  }
  words.costs.push(
    'Cycles begin more often; each costs the host some work, and what changes twice is sent twice.',
  );
  if (cycleMs === null || cycleMs * 2 <= after.rpo_ms) return;
  words.costs.push(
    `The last cycle took ${span(cycleMs)}, more than half of the new RPO: a violation is to be expected.`,
  );
}

function lostWords(lost: PointsLost | null): string {
  if (lost === null) return 'Which points go cannot be told now: the recovery site does not say.';
  const beyond =
    lost.total > lost.looked_at ? `, and maybe some of ${lost.total - lost.looked_at} older ones` : '';
  if (lost.count === 0) return `None of the ${lost.looked_at} newest points goes${beyond}.`;
  const [from, to] = [lost.oldest_ms ?? 0, lost.newest_ms ?? 0].map((ms) => new Date(ms).toISOString());
  return (
    `${lost.count} of ${lost.total} recovery points go within minutes, and for ever${beyond}: ` +
    (lost.count === 1 ? `that of ${from}.` : `from ${from} to ${to}.`)
  );
}

function diskWords(words: Words, before: Protection, after: Changed, vm: VmReport | undefined): void {
  const all = vm?.disks.filter((disk) => disk.refusal === null).map(({ key }) => key) ?? [];
  const was = before.disks.length === 0 ? all : before.disks;
  const is = after.disks.length === 0 ? all : after.disks;
  const added = is.filter((key) => !was.includes(key));
  const left = was.filter((key) => !is.includes(key));
  if (added.length > 0) {
    const bytes = (vm?.disks ?? [])
      .filter(({ key }) => added.includes(key))
      .reduce((sum, disk) => sum + Math.min(disk.bytes, disk.allocated_bytes ?? disk.bytes), 0);
    words.changes.push(`Replicated from now on: ${added.join(', ')}.`);
    words.costs.push(
      `The next cycle reads and sends up to ${Math.ceil(bytes / MIB)} MiB for it; points may be late.`,
    );
  }
  if (left.length === 0) return;
  words.changes.push(`No longer replicated: ${left.join(', ')}.`);
  words.costs.push('Newer points are without it; older ones have it until retention takes them.');
}

function kept({ keep_all_ms: allMs, tiers }: Retention): string {
  const all = allMs === 0 ? 'the newest' : `all of the last ${span(allMs)}`;
  return [all, ...tiers.map((tier) => `one every ${span(tier.every_ms)} for ${span(tier.for_ms)}`)].join(
    ', ',
  );
}

function span(ms: number): string {
  const [unitMs, unit] = UNITS.find(([size]) => ms >= size && ms % size === 0) ?? [1, 'ms'];
  return `${ms / unitMs} ${unit}`;
}
