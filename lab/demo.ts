/**
 * `antipode demo`: two sites, the ledger guest at west, protected to east with an RPO of five seconds; then
 * what to try.
 *
 * It asks the sites for everything through the public API, as a user does. What is there already stays: a
 * second run says how things stand.
 */
import { parseArgs } from 'node:util';
import type { FirstLinkReply, SignIn } from '#/api/access.ts';
import type { Page } from '#/api/common.ts';
import type { Vm } from '#/api/inventory.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { SiteStatus, VmStatus } from '#/api/status.ts';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { DEFAULT_DIRECTORY, labDirectory } from './lab-state.ts';
import { labStatus, vmList } from './lab-status.ts';
import { Lab } from './lab.ts';
import { createLedger, serialLog, waitForText } from './ledger-vm.ts';
import { reportFailure } from './report-failure.ts';

const VM = 'ledger';
const RPO_MS = 5000;
/** Enough for TCG on a busy machine: the first copy is small. */
const PATIENCE_MS = 180_000;
const POLL_MS = 200;
/** Points after the first show that the deltas come, too. */
const POINTS = 3;

const HELP = `antipode demo - two sites on this machine, a VM at west protected to east (as root)

  demo [--json]     ends with everything running; ./antipode lab down removes it all

ANTIPODE_LAB chooses another directory than ${DEFAULT_DIRECTORY}.`;

async function demo(): Promise<Lab> {
  say('Two sites, each with its own network, libvirt, agent, replication server and manager.');
  const lab = await Lab.up({ directory: labDirectory(), sites: ['west', 'east'], keep: true, say });
  await ensureLedger(lab);
  await ensureProtection(lab);
  await waitForPoints(lab);
  return lab;
}

async function ensureLedger(lab: Lab): Promise<void> {
  const found = (await vmList(lab)).filter((vm) => vm.name === VM);
  if (found.some((vm) => vm.site === 'east')) {
    throw new Failure('conflict', `${VM} has already been recovered at east`, {
      hint: 'Begin anew with: ./antipode lab down && ./antipode demo',
    });
  }
  const west = lab.site('west');
  if (found.length === 0) {
    say(`west: creating the VM ${VM}: two disks, a numbered record every 100 ms`);
    await createLedger(west, { name: VM });
  } else if (found[0]?.state !== 'running') {
    say(`west: starting ${VM}`);
    await west.virsh(['start', VM], { timeoutMs: 60_000 });
  }
  // A recovery point from before the first record would have nothing to tell.
  await waitForText(serialLog(west, VM), /LEDGER n=\d+/, { timeoutMs: PATIENCE_MS });
}

async function ensureProtection(lab: Lab): Promise<void> {
  const { api } = lab.site('west');
  const protections = await api.get<Page<ProtectionView>>('/api/v1/protections');
  if (protections.items.some((each) => each.vm_name === VM)) return;
  await waitUntil(`west's manager does not see ${VM}`, async () => {
    const vms = await api.get<Page<Vm>>('/api/v1/vms');
    return vms.items.some((vm) => vm.name === VM && vm.state === 'running');
  });
  say(`west: protecting ${VM} to east with an RPO of ${RPO_MS / 1000} s`);
  await api.post('/api/v1/protections', { vm: VM, site: 'east', rpo_ms: RPO_MS });
}

/** East's word counts: what it holds is what a recovery has. */
async function waitForPoints(lab: Lab): Promise<void> {
  say(`east: waiting for the first ${POINTS} recovery points`);
  await waitUntil(`east gets no recovery points of ${VM}`, async () => {
    const [here, there] = [await statusOf(lab, 'west'), await statusOf(lab, 'east')];
    lastFailure = here?.failure?.message ?? there?.failure?.message;
    return there?.rpo === 'met' && (there.point?.sequence ?? 0) >= POINTS;
  });
}

let lastFailure: string | undefined;

async function statusOf(lab: Lab, site: string): Promise<VmStatus | undefined> {
  const status = await lab.site(site).api.get<SiteStatus>('/api/v1/status');
  return status.vms.find((vm) => vm.vm_name === VM);
}

async function waitUntil(complaint: string, isDone: () => Promise<boolean>): Promise<void> {
  const end = systemClock.monotonicMs() + PATIENCE_MS;
  while (!(await isDone())) {
    if (systemClock.monotonicMs() > end) {
      const reason = lastFailure === undefined ? '' : `: ${lastFailure}`;
      throw new Failure('timeout', `${complaint} within ${PATIENCE_MS / 1000} s${reason}`, {
        hint: `Logs are in ${labDirectory()}/sites/*/logs. Begin anew with: ./antipode lab down`,
      });
    }
    await systemClock.sleep(POLL_MS);
  }
}

async function closingWords(lab: Lab): Promise<string> {
  const [west, east] = (await labStatus(lab)).sites;
  const status = await statusOf(lab, 'east');
  const age =
    status?.age_ms === null || status?.age_ms === undefined ? '?' : (status.age_ms / 1000).toFixed(1);
  const point = status?.point?.sequence ?? '?';
  const elsewhere = labDirectory() === DEFAULT_DIRECTORY ? [] : [`  export ANTIPODE_LAB=${labDirectory()}`];
  const type = (command: string, why: string): string => `  ${`./antipode ${command}`.padEnd(48)} ${why}`;
  return [
    '',
    `${VM} runs at west.`,
    `East holds recovery point ${point}, ${age} s old; the RPO is ${RPO_MS / 1000} s.`,
    '',
    'The web page of each site, where you choose a name and a password first:',
    `  west  ${await wayIn(lab, 'west', west?.url)}`,
    `  east  ${await wayIn(lab, 'east', east?.url)}`,
    'Each site has its own certificate authority, so the browser asks whether to trust it.',
    '',
    'What to type next:',
    ...elsewhere,
    type('status --site east', 'how old the newest recovery point is'),
    type(`points ${VM} --site east`, 'every point that can be recovered'),
    type(`lab console ${VM} --follow`, 'what the guest says'),
    type(`recover ${VM} --site east --test`, 'a copy beside it, in an isolated network'),
    type(`cleanup ${VM} --site east`, 'and away with it'),
    type('lab link cut west east', 'the RPO is violated, and status says so'),
    type('lab link restore west east', ''),
    '',
    'The disaster:',
    type('lab link cut west east', ''),
    type('lab kill west', 'VMs, libvirt, our programs: all of it'),
    type(`recover ${VM} --site east`, 'brings it up at east'),
    type(`lab console ${VM} --site east`, 'which records the guest found: B = A or A - 1'),
    '',
    type('lab down', 'removes everything'),
  ]
    .map((line) => line.trimEnd())
    .join('\n');
}

/** The address at which the first administrator is made; where there is one already, that of the page. */
async function wayIn(lab: Lab, site: string, url: string | null | undefined): Promise<string> {
  const { api } = lab.site(site);
  const { needs_first_administrator: isNew } = await api.get<SignIn>('/api/v1/sign-in');
  if (!isNew) return url ?? '?';
  const { token } = await api.post<FirstLinkReply>('/api/v1/first-links');
  return new URL(`/first#${token}`, url ?? '').href;
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

function options(): { json: boolean; help: boolean } {
  try {
    const { values } = parseArgs({
      options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    });
    return { json: values.json === true, help: values.help === true };
  } catch (error) {
    throw new Failure('usage_invalid', 'demo', { cause: error, hint: './antipode demo --help tells how.' });
  }
}

try {
  const { json, help } = options();
  if (help) process.stdout.write(`${HELP}\n`);
  else {
    const lab = await demo();
    const text = json ? JSON.stringify(await labStatus(lab), null, 2) : await closingWords(lab);
    process.stdout.write(`${text}\n`);
  }
} catch (error) {
  reportFailure(error, process.argv.includes('--json'));
}
