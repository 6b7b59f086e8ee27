/**
 * The planted bugs: one-line changes of production code, each of which the simulation must catch.
 *
 * `line` is text that stands exactly once in `file`; `becomes` takes its place. `seeds` is how many seeds, from 1 on,
 * are enough to catch it.
 */

import type { FaultGroup } from './faults.ts';

export type PlantedBug = {
  name: string;
  file: string;
  line: string;
  becomes: string;
  seeds: number;
  /** What has to go wrong for the bug to show; left out where what each seed draws is enough. */
  faults?: readonly FaultGroup[];
};

export const PLANTED_BUGS: readonly PlantedBug[] = [
  {
    name: 'acknowledge-before-datasync',
    file: 'src/replica/point-log.ts',
    line: 'await this.#file.write(this.#end, bytes);\n      await this.#file.datasync();',
    becomes: 'await this.#file.write(this.#end, bytes);',
    seeds: 10,
  },
  {
    name: 'acknowledge-before-commit',
    file: 'src/wire/server-requests.ts',
    line: 'const point = await receiving.point.commit({ segmentCount, roots, attachments, consistency });',
    becomes: `const point = { sequence: (this.#replica.head()?.sequence ?? 0) + 1, stamp };
    void receiving.point.commit({ segmentCount, roots, attachments, consistency }).catch(() => undefined);`,
    seeds: 10,
  },
  {
    name: 'skip-directory-sync',
    file: 'src/replica/incoming-point.ts',
    line: "await files.syncDirectory(pathIn(directory, 'deltas'));",
    becomes: '',
    seeds: 10,
  },
  {
    name: 'skip-delta-datasync',
    file: 'src/replica/incoming-point.ts',
    line: 'await writer.datasync();',
    becomes: '',
    seeds: 10,
  },
  {
    name: 'accept-torn-log-tail',
    file: 'src/replica/log-frame.ts',
    line: 'if (view.getUint32(FRAME_CRC_AT) !== crcAround(frame, FRAME_CRC_AT)) return undefined;',
    becomes: '',
    faults: ['server'],
    seeds: 60,
  },
  {
    name: 'reuse-delta-number',
    file: 'src/replica/open-store.ts',
    line: 'takeDeltaNumber: () => next++,',
    becomes: 'takeDeltaNumber: () => next,',
    seeds: 10,
  },
  {
    name: 'advance-base-over-offered-point',
    file: 'src/replica/compaction-plan.ts',
    line: 'delta.last <= oldest.sequence',
    becomes: 'delta.first <= oldest.sequence + 1',
    seeds: 10,
  },
  {
    name: 'prune-below-open-view',
    file: 'src/replica/compaction.ts',
    line: 'pinned: new Set(this.#pins.keys()),',
    becomes: 'pinned: new Set(),',
    seeds: 30,
  },
  {
    name: 'advance-base-before-datasync',
    file: 'src/replica/base-advance.ts',
    line: 'await base.datasync();',
    becomes: '',
    seeds: 30,
  },
  {
    name: 'forget-last-dirty-range',
    file: 'src/replication/ranges.ts',
    line: 'for (const other of others.slice(next)) yield* take(other);\n  if (current !== undefined) yield current;',
    becomes: 'for (const other of others.slice(next)) yield* take(other);',
    seeds: 10,
  },
  {
    name: 'commit-without-confirming-the-moment',
    file: 'src/replication/point.ts',
    line: 'await this.moment.confirm();',
    becomes: '',
    faults: ['vm'],
    seeds: 60,
  },
  {
    name: 'resume-one-segment-late',
    file: 'src/replication/transfer.ts',
    line: 'if (index < this.#options.skip) return;',
    becomes: 'if (index <= this.#options.skip && this.#options.skip > 0) return;',
    faults: ['link'],
    seeds: 30,
  },
  {
    name: 'drop-zeroed-blocks',
    file: 'src/replication/transfer.ts',
    line: 'await this.#flushZeroed();\n    return this.#changed;',
    becomes: 'return this.#changed;',
    seeds: 10,
  },
  {
    name: 'ignore-back-pressure',
    file: 'src/wire/client-session.ts',
    line: "await this.#connection.send({ kind: 'segment', index, segment, payload });",
    becomes:
      "void this.#connection.send({ kind: 'segment', index, segment, payload }).catch(() => undefined);",
    faults: ['link'],
    seeds: 30,
  },
  {
    name: 'forget-raised-epoch',
    file: 'src/replica/log-state.ts',
    line: 'return { ...state, epoch: Math.max(state.epoch, record.epoch) };',
    becomes: 'return state;',
    faults: ['takeover'],
    seeds: 5,
  },
  {
    name: 'admit-a-point-begun-before-the-epoch-rose',
    file: 'src/replica/log-state.ts',
    line: 'if (point.epoch < state.epoch) {',
    becomes: 'if (false) {',
    faults: ['takeover', 'link'],
    seeds: 60,
  },
];
