/** Debian's Chromium, driven by playwright-core. What a page logs as an error, or throws, fails the test. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';

const EXECUTABLE = '/usr/bin/chromium';
const SHOTS = join(import.meta.dirname, '../../web/screenshots');
/** Chromium is run as root in tests, which its sandbox refuses, and asks nobody outside. */
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: EXECUTABLE, headless: true, args: ARGUMENTS });
}

/** A page of its own session, with the mistakes that its console told. */
export async function openPage(browser: Browser, colors: 'light' | 'dark' = 'light') {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    colorScheme: colors,
    viewport: { width: 1440, height: 900 },
  });
  const page = await context.newPage();
  const mistakes: string[] = [];
  page.on('pageerror', (error) => mistakes.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') mistakes.push(message.text());
  });
  return { page, mistakes, close: () => context.close() };
}

export const PASSWORD = 'four plain words here';

/** Becomes the first administrator by the link, as the one who installed the site does. */
export async function becomeAdministrator(page: Page, link: string): Promise<void> {
  await page.goto(link);
  await page.getByLabel('Name').fill('alice');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByLabel('Password again').fill(PASSWORD);
  await page.getByRole('button', { name: 'Become administrator' }).click();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
}

export async function signIn(page: Page, url: string): Promise<void> {
  await page.goto(url);
  await page.getByLabel('Name').fill('alice');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

/** Into web/screenshots, which is build output. */
export async function shoot(page: Page, name: string): Promise<void> {
  await mkdir(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

/** Pages that need nothing but their address, with their headings. */
export const PAGES = [
  ['Recovery plans', 'plans'],
  ['Reports', 'reports'],
  ['Sites and hosts', 'sites'],
  ['Alarms', 'alarms'],
  ['Events', 'events'],
  ['Audit', 'audit'],
  ['Access', 'access'],
  ['My account', 'account'],
  ['Settings', 'settings'],
] as const;

/** Nobody has signed in yet when the page first asks who is there. */
export const mistakesIn = (all: readonly string[]): string[] => all.filter((text) => !text.includes('401'));

/** In the dialog that is open. */
export const confirm = (page: Page, name: string): Promise<void> =>
  page.getByRole('dialog').getByRole('button', { name, exact: true }).click();
