/**
 * `antipode lab`: the command line of lab/lab.ts. Progress goes to standard error; `--json` prints one
 * object.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { findVmSite, labStatus, vmList, type LabStatus } from './lab-status.ts';
import { followLog } from './console.ts';
import { labDirectory } from './lab-state.ts';
import { Lab } from './lab.ts';
import { consoleLog, createLedger, serialLog } from './ledger-vm.ts';
import { reportFailure } from './report-failure.ts';
import { parseBytes } from './parse-bytes.ts';
import { parseLoss, parseRate } from './wan.ts';

const HELP = `antipode lab - real sites on one machine (as root)

  lab up [--sites west,east] [--bare]    make the sites, or start what is missing of them
  lab status                             sites, programs, links, VMs, addresses
  lab down                               remove everything the lab made, also after a crash
  lab link cut|restore A B               packets between A and B vanish; pass again
  lab link limit A B [--rate 20mbit] [--loss 1%]
  lab vm create NAME --site SITE [--disk 64M ...] [--interval MS] [--load WRITES] [--fill BYTES] [--off]
  lab vm list
  lab console VM [--follow]              the serial console's log
  lab exec SITE -- COMMAND ...           run something inside a site
  lab kill SITE | SITE/PROGRAM           SIGKILL; a program is manager, replication-server, agent,
  lab start SITE | SITE/PROGRAM          libvirtd, virtlogd, gateway, or vm/NAME for the QEMU of a VM

All take --json. ANTIPODE_LAB chooses another lab's directory (${labDirectory()}).
--bare makes sites with libvirt alone, without Antipode's programs.`;

const OPTIONS = {
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  sites: { type: 'string' },
  bare: { type: 'boolean' },
  rate: { type: 'string' },
  loss: { type: 'string' },
  site: { type: 'string' },
  disk: { type: 'string', multiple: true },
  interval: { type: 'string' },
  load: { type: 'string' },
  fill: { type: 'string' },
  off: { type: 'boolean' },
  follow: { type: 'boolean', short: 'f' },
} as const;

type Parsed = ReturnType<typeof parse>;
/** What a command did: an object for --json, and the text that says it to people. */
type Outcome = { readonly json: unknown; readonly text: string };

function parse(argv: string[]) {
  try {
    return parseArgs({ args: argv, options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error));
  }
}

const COMMANDS: Record<string, (parsed: Parsed) => Promise<Outcome>> = {
  up,
  status,
  down,
  link,
  vm,
  console: showConsole,
  kill,
  start,
};

async function up({ values }: Parsed): Promise<Outcome> {
  const startMs = systemClock.monotonicMs();
  const existing = Lab.find(labDirectory());
  const sites = values.sites?.split(',') ?? existing?.sites.map((site) => site.name) ?? ['west', 'east'];
  const bare = values.bare ?? existing?.bare ?? false;
  const lab = await Lab.up({ directory: labDirectory(), sites, bare, keep: true, say });
  const status = await labStatus(lab);
  const seconds = ((systemClock.monotonicMs() - startMs) / 1000).toFixed(1);
  return { json: status, text: `${statusText(status)}\nup after ${seconds} s` };
}

async function status(): Promise<Outcome> {
  const status = await labStatus(theLab());
  return { json: status, text: statusText(status) };
}

async function down(): Promise<Outcome> {
  const removed = await Lab.down(labDirectory());
  return { json: { removed }, text: removed ? 'the lab is gone' : 'there was no lab' };
}

async function link({ positionals, values }: Parsed): Promise<Outcome> {
  const [action, a, b] = positionals;
  if (a === undefined || b === undefined) throw usage('link needs an action and two sites');
  const lab = theLab();
  if (action === 'cut') await lab.cut(a, b);
  else if (action === 'restore') await lab.restore(a, b);
  else if (action === 'limit') {
    if (values.rate === undefined && values.loss === undefined)
      throw usage('limit needs --rate, --loss or both');
    await lab.limit(a, b, {
      bitsPerSecond: values.rate === undefined ? undefined : parseRate(values.rate),
      lossRatio: values.loss === undefined ? undefined : parseLoss(values.loss),
    });
  } else throw usage(`link knows cut, restore and limit, not ${action}`);
  const links = lab.links;
  return { json: { links }, text: links.map(linkText).join('\n') };
}

async function vm({ positionals, values }: Parsed): Promise<Outcome> {
  const [action, name] = positionals;
  const lab = theLab();
  if (action === 'create') {
    if (name === undefined || values.site === undefined) throw usage('vm create needs a NAME and --site');
    say(`${values.site}: creating ${name}`);
    await createLedger(lab.site(values.site), {
      name,
      ...(values.disk === undefined ? {} : { diskBytes: twoDisks(values.disk.map(parseBytes)) }),
      intervalMs: integer('interval', values.interval, 100),
      loadPerSecond: integer('load', values.load, 0),
      fillBytes: parseBytes(values.fill ?? '0'),
      start: values.off !== true,
    });
  } else if (action !== 'list') throw usage(`vm knows create and list, not ${action}`);
  const vms = await vmList(lab);
  const lines = vms.map((each) => `${each.name}  ${each.site}  ${each.state}`);
  return { json: { vms }, text: lines.join('\n') || 'no VMs' };
}

/** One --disk is meant for both. */
function twoDisks(sizes: number[]): number[] {
  return sizes.length === 1 ? [sizes[0]!, sizes[0]!] : sizes;
}

async function showConsole({ positionals, values }: Parsed): Promise<Outcome> {
  const name = positionals[0];
  if (name === undefined) throw usage('console needs the name of a VM');
  const lab = theLab();
  const site = lab.site(values.site ?? (await findVmSite(lab, name)));
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort());
  // A VM that is off was logged where the lab's own VMs are.
  const log = (await consoleLog(site, name)) ?? serialLog(site, name);
  await followLog(log, { follow: values.follow === true, signal: controller.signal });
  return { json: { site: site.name, log }, text: '' };
}

async function kill({ positionals }: Parsed): Promise<Outcome> {
  const { site, program } = target(positionals);
  if (program !== undefined) {
    await theLab().kill(site, program);
    return { json: { killed: `${site}/${program}` }, text: `killed ${program} at ${site}` };
  }
  const count = await theLab().killSite(site);
  return { json: { killed: site, processes: count }, text: `killed ${site}: ${count} processes` };
}

async function start({ positionals }: Parsed): Promise<Outcome> {
  const { site, program } = target(positionals);
  await theLab().start(site, program);
  return { json: { started: positionals[0] }, text: `${positionals[0]} runs` };
}

function target(positionals: string[]): { site: string; program: string | undefined } {
  const [site, ...rest] = (positionals[0] ?? '').split('/');
  if (site === undefined || site === '') throw usage('give a SITE or SITE/PROGRAM');
  return { site, program: rest.length === 0 ? undefined : rest.join('/') };
}

/** The command's own streams, directory and exit code; `antipode` is in its path. */
async function exec(argv: string[]): Promise<number> {
  const [siteName, separator, ...command] = argv;
  if (siteName === undefined || separator !== '--' || command.length === 0) {
    throw usage('exec needs SITE -- COMMAND');
  }
  // Entering a mount namespace leads to its root directory.
  const shell = ['sh', '-c', 'cd "$1" && shift && exec "$@"', 'sh', process.cwd(), ...command];
  const words = [...theLab().site(siteName).enter(), ...shell];
  const child = spawn(words[0]!, words.slice(1), {
    stdio: 'inherit',
    env: { ...process.env, PATH: `${join(import.meta.dirname, '..')}:${process.env['PATH']}` },
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => resolve(code ?? 1));
  });
}

function theLab(): Lab {
  const lab = Lab.find(labDirectory());
  if (lab !== undefined) return lab;
  throw new Failure('not_found', `there is no lab in ${labDirectory()}`, {
    hint: 'Make one: ./antipode lab up',
  });
}

function statusText(status: LabStatus): string {
  const lines: string[] = [`lab ${status.id} in ${status.directory}`];
  for (const site of status.sites) {
    const running = site.processes.filter((each) => each.running).map((each) => each.name);
    const missing = site.processes.filter((each) => !each.running).map((each) => each.name);
    lines.push(
      `${site.name}  ${site.address}  ${running.length > 0 ? 'runs: ' + running.join(' ') : 'down'}`,
    );
    if (missing.length > 0) lines.push(`  not running: ${missing.join(' ')}`);
    if (site.url !== null) lines.push(`  API: ${site.url}`);
    for (const vm of site.vms) lines.push(`  VM ${vm.name}  ${vm.state}`);
  }
  return [...lines, ...status.links.map(linkText)].join('\n');
}

function linkText(link: Readonly<LabStatus['links'][number]>): string {
  const limits = [
    link.cut ? 'cut' : 'up',
    ...(link.bits_per_second === null ? [] : [`${link.bits_per_second / 1e6} Mbit/s`]),
    ...(link.loss_ratio === null ? [] : [`${link.loss_ratio * 100} % loss`]),
  ];
  return `link ${link.a} - ${link.b}  ${limits.join(', ')}`;
}

function integer(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw usage(`--${name} takes a whole number, not "${text}"`);
}

function usage(message: string): Failure {
  return new Failure('usage_invalid', message, { hint: './antipode lab --help tells how.' });
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function main(argv: string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === 'exec') return exec(rest);
  const command = COMMANDS[name ?? ''];
  const parsed = command === undefined ? undefined : parse(rest);
  if (command === undefined || parsed === undefined || parsed.values.help === true) {
    const isAsked = name === undefined || name === '--help' || name === '-h' || command !== undefined;
    if (!isAsked) throw usage(`lab has no command "${name}"`);
    process.stdout.write(`${HELP}\n`);
    return 0;
  }
  const outcome = await command(parsed);
  if (parsed.values.json === true) process.stdout.write(`${JSON.stringify(outcome.json, null, 2)}\n`);
  else if (outcome.text !== '') process.stdout.write(`${outcome.text}\n`);
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  reportFailure(error, process.argv.includes('--json'));
}
