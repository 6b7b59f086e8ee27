/**
 * `antipode bench NAME [--rounds N] [--json]`: runs one benchmark and prints its figures.
 *
 * The last line on stdout with `--json` is one object: `{name, figures: [{name, value, unit, goal, met}]}`.
 * Exit status 1 when a goal is missed, 2 for a wrong call.
 */
import { parseArgs } from 'node:util';
import { describe } from '#/lib/failure.ts';
import { TwoSites } from '#lab/two-sites.ts';
import type { Benchmark, Figure } from './figure.ts';

const BENCHMARKS: Record<string, () => Promise<Benchmark>> = {
  'full-copy': async () => (await import('./full-copy.ts')).fullCopy,
  'idle-cycle': async () => (await import('./idle-cycle.ts')).idleCycle,
  wire: async () => (await import('./wire.ts')).wire,
  start: async () => (await import('./start.ts')).start,
  plan: async () => (await import('./plan.ts')).plan,
  failback: async () => (await import('./failback.ts')).failback,
  partitions: async () => (await import('./partitions.ts')).partitions,
};

// A process that ends by a signal disposes of nothing.
for (const [name, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(name, () => {
    process.stderr.write('taking the lab down\n');
    void TwoSites.downAll().finally(() => process.exit(status));
  });
}
process.exitCode = await main(process.argv.slice(2));

async function main(argv: string[]): Promise<number> {
  const options = {
    rounds: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  } as const;
  let parsed;
  try {
    parsed = parseArgs({ args: argv, options, allowPositionals: true });
  } catch (error) {
    return refuse(describe(error));
  }
  const rounds = Number(parsed.values.rounds);
  const [name] = parsed.positionals;
  if (parsed.values.help || name === undefined) return help();
  const load = BENCHMARKS[name];
  if (load === undefined || parsed.positionals.length > 1)
    return refuse(`no benchmark '${parsed.positionals.join(' ')}'`);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 100)
    return refuse('--rounds is a number from 1 to 100');
  const benchmark = await load();
  const figures = await benchmark.run({ rounds, say: (line) => process.stderr.write(`${line}\n`) });
  process.stdout.write(parsed.values.json ? `${JSON.stringify({ name, figures })}\n` : table(figures));
  return figures.some((figure) => figure.met === false) ? 1 : 0;
}

async function help(): Promise<number> {
  process.stdout.write('usage: antipode bench NAME [--rounds N] [--json]\n\nbenchmarks:\n');
  for (const [name, load] of Object.entries(BENCHMARKS)) {
    process.stdout.write(`  ${name.padEnd(12)} ${(await load()).about}\n`);
  }
  return 0;
}

function refuse(message: string): number {
  process.stderr.write(`antipode bench: ${message}; 'antipode bench --help' lists what there is\n`);
  return 2;
}

function table(figures: readonly Figure[]): string {
  const rows = figures.map((row) => {
    const goal = row.goal === null ? '' : `goal ${row.goal} ${row.met === true ? 'met' : 'MISSED'}`;
    return `${row.name.padEnd(36)} ${String(row.value).padStart(10)} ${row.unit.padEnd(12)} ${goal}`.trimEnd();
  });
  return `${rows.join('\n')}\n`;
}
