/**
 * The command line of the simulation: one seed, a range of seeds, or a batch of fresh ones for some seconds.
 *
 * Exit codes: 0 when nothing was violated, 1 when something was, 2 for a wrong command line.
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { FAULT_GROUPS, type FaultGroup } from './faults.ts';
import { loadWithBug } from './mutated-graph.ts';
import { PLANTED_BUGS } from './planted-bugs.ts';
import { runSeed, type Outcome } from './run-seed.ts';

const USAGE = `The production code of replication, wire and replica store in a deterministic world, with faults.

usage: ./antipode sim --seed N [--trace] [--bug NAME] [--json]
       ./antipode sim --seeds A..B [--bug NAME] [--json]
       ./antipode sim --batch-seconds S [--bug NAME] [--json]
--faults A,B chooses what goes wrong: ${FAULT_GROUPS.join(', ')}
planted bugs: ${PLANTED_BUGS.map(({ name }) => name).join(', ')}`;

/** Seeds are 32 bits; a fresh batch starts well below the end. */
const FRESH_SEED_MAX = 2 ** 31;

type Plan = {
  seeds: Iterable<number>;
  untilMs: number;
  isTraced: boolean;
  isJson: boolean;
  bug: string | undefined;
  faults: readonly FaultGroup[] | undefined;
};
type Totals = { seeds: number; events: number; points: number; virtualMs: number; checkedPoints: number };

const argv = process.argv.slice(2);
const isHelp = argv.some((word) => ['-h', '--help'].includes(word));
if (isHelp) console.log(USAGE);
const plan = isHelp ? undefined : readPlan(argv);
if (!isHelp) process.exitCode = plan ? await runPlan(plan) : 2;

function readPlan(args: string[]): Plan | undefined {
  try {
    const { values } = parseArgs({
      args,
      options: {
        seed: { type: 'string' },
        seeds: { type: 'string' },
        'batch-seconds': { type: 'string' },
        bug: { type: 'string' },
        faults: { type: 'string' },
        trace: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    });
    const { seed, seeds, bug, trace: isTraced, json: isJson } = values;
    if (bug !== undefined && !PLANTED_BUGS.some(({ name }) => name === bug))
      throw new Error(`no planted bug ${bug}`);
    const seconds = values['batch-seconds'];
    if ([seed, seeds, seconds].filter((each) => each !== undefined).length !== 1) {
      throw new Error('one of --seed, --seeds and --batch-seconds is needed');
    }
    // A bug's bound of seeds holds for the faults it names.
    const faults = faultsIn(values.faults) ?? PLANTED_BUGS.find(({ name }) => name === bug)?.faults;
    const common = { isTraced, isJson, bug, faults, untilMs: Number.POSITIVE_INFINITY };
    if (seed !== undefined) return { ...common, seeds: [wholeNumber(seed)] };
    if (seeds !== undefined) return { ...common, seeds: range(seeds) };
    const first = randomInt(FRESH_SEED_MAX);
    console.error(`fresh seeds from ${first}`);
    const untilMs = performance.now() + 1000 * wholeNumber(seconds!);
    return { ...common, seeds: ascending(first, 2 ** 32), untilMs };
  } catch (error) {
    console.error(`sim: ${(error as Error).message}\n${USAGE}`);
    return undefined;
  }
}

async function runPlan({ seeds, untilMs, isTraced, isJson, bug, faults }: Plan): Promise<number> {
  const run = bug === undefined ? runSeed : (await loadWithBug(bug)).runSeed;
  const print = isTraced ? (line: string): void => console.log(line) : undefined;
  const startedMs = performance.now();
  const totals: Totals = { seeds: 0, events: 0, points: 0, virtualMs: 0, checkedPoints: 0 };
  let failed: Outcome | undefined;
  for (const seed of seeds) {
    const outcome = await run(seed, { print, faults });
    add(totals, outcome);
    if (isJson) console.log(JSON.stringify(outcome));
    else if (isTraced) console.log(`trace hash ${outcome.traceHash}`);
    if (outcome.violations.length > 0) failed = outcome;
    if (failed || performance.now() >= untilMs) break;
  }
  const seconds = (performance.now() - startedMs) / 1000;
  const again = `${bug === undefined ? '' : ` --bug ${bug}`}${faults ? ` --faults ${faults.join(',')}` : ''}`;
  if (failed && !isJson) report(failed, again);
  console.error(
    `${totals.seeds} seeds in ${seconds.toFixed(1)} s, ${(totals.seeds / seconds).toFixed(1)} seeds/s, ` +
      `${(totals.virtualMs / 1000 / seconds).toFixed(0)} times real time, ${totals.events} events, ` +
      `${totals.points} points acknowledged, ${totals.checkedPoints} compared`,
  );
  return failed ? 1 : 0;
}

function add(totals: Totals, outcome: Outcome): void {
  totals.seeds++;
  totals.events += outcome.events;
  totals.points += outcome.points;
  totals.virtualMs += outcome.virtualMs;
  totals.checkedPoints += outcome.checks.points;
}

function report({ seed, violations, tail, virtualMs }: Outcome, again: string): void {
  console.log(tail.join('\n'));
  for (const { invariant, what } of violations)
    console.log(`${invariant} violated at ${virtualMs} ms: ${what}`);
  console.log(`seed ${seed}; again: ./antipode sim --seed ${seed} --trace${again}`);
}

function faultsIn(text: string | undefined): FaultGroup[] | undefined {
  return text?.split(',').map((name) => {
    const group = FAULT_GROUPS.find((each) => each === name);
    if (!group) throw new Error(`no such fault: ${name}`);
    return group;
  });
}

function range(text: string): Iterable<number> {
  const [first, last] = /^(\d+)\.\.(\d+)$/.exec(text)?.slice(1).map(Number) ?? [];
  if (first === undefined || last === undefined || last < first)
    throw new Error(`no range of seeds: ${text}`);
  return ascending(first, last + 1);
}

function* ascending(first: number, end: number): Generator<number> {
  for (let seed = first; seed < end; seed++) yield seed;
}

function wholeNumber(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new Error(`not a whole number: ${text}`);
  return Number(text);
}
