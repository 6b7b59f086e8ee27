/** What the page of one VM changes: how it is protected, and which of its points are kept by a name. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { becomeAdministrator, launch, openPage, shoot, signIn } from './browser.ts';
import { openStage, uuidOf, type Stage } from './stage.ts';

let browser: Browser;
let stage: Stage;

before(async () => {
  stage = await openStage();
  browser = await launch();
  const { close, page } = await openPage(browser);
  for (const site of [stage.east, stage.west]) await becomeAdministrator(page, await stage.firstLink(site));
  await close();
});
after(async () => {
  await browser?.close();
  await stage?.[Symbol.asyncDispose]();
});

/** Nobody has signed in yet when the page first asks who is there. */
const mistakesIn = (all: readonly string[]): string[] => all.filter((text) => !text.includes('401'));

test('a point is bookmarked on the timeline, chosen by its bookmark, and its export command is told', async () => {
  const { close, mistakes, page } = await openPage(browser);
  await signIn(page, `${stage.url(stage.east)}/vms/${uuidOf(2)}?point=880`);
  await page.getByRole('button', { name: 'Bookmark…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill(' ');
  await dialog.getByText('It is blank.').waitFor();
  await dialog.getByLabel('Name').fill('before the upgrade');
  await dialog.getByLabel('Kept').selectOption('For 30 days');
  await dialog.getByRole('button', { name: 'Bookmark' }).click();
  await dialog.waitFor({ state: 'detached' });
  const label = page.getByRole('button', { name: /before the upgrade, / });
  await label.waitFor();
  // Until its replication server has said that it keeps it, the page says so.
  await page.getByRole('button', { name: /before the upgrade, [\d:]+$/ }).waitFor();
  await page.locator('.timeline-flag').first().waitFor({ state: 'attached' });
  await page.getByText('Back to the newest').click();
  await label.click();
  await page.getByText('Back to the newest').waitFor();
  assert.match(page.url(), /point=880/);
  const labels = () => page.locator('.timeline-label').allTextContents();
  const before = await labels();
  for (let turn = 0; turn < 3; turn++) await page.getByRole('button', { name: 'Zoom out' }).click();
  assert.notDeepEqual(await labels(), before);
  await shoot(page, 'vm-bookmark');
  await page.getByRole('button', { name: 'Export…' }).click();
  const command = await page.getByLabel('Command').inputValue();
  assert.match(command, /^antipode replica export \/srv\/antipode\/replica-\S+ \S+ --point 880$/);
  await page.getByRole('button', { name: 'Close' }).last().click();
  await page.getByRole('button', { name: 'Take before the upgrade away' }).click();
  await page.getByRole('button', { name: 'Take it away' }).click();
  await label.waitFor({ state: 'detached' });
  assert.deepEqual(mistakesIn(mistakes), []);
  await close();
});

test('how a VM is protected is changed in place, after what that costs was said and confirmed', async () => {
  const { close, mistakes, page } = await openPage(browser);
  await signIn(page, `${stage.url(stage.west)}/vms/${uuidOf(5)}`);
  await page.getByRole('button', { name: 'Change…' }).click();
  const dialog = page.getByRole('dialog');
  const change = dialog.getByRole('button', { name: 'Change' });
  await dialog.getByText('Nothing is changed yet.').waitFor();
  await dialog.getByLabel('RPO').fill('5');
  await dialog.getByText('A number and a unit').waitFor();
  assert(await change.isDisabled());
  await dialog.getByLabel('RPO').fill('20 s');
  await dialog.getByText('The RPO is 20 s; until now 10 s.').waitFor();
  await dialog.getByLabel('Points kept').selectOption({ label: 'the newest' });
  await dialog.getByText(/\d+ of \d+ recovery points go within minutes, and for ever/).waitFor();
  assert(await change.isDisabled());
  await dialog.getByLabel(/would go for ever/).fill('build');
  await shoot(page, 'vm-change');
  await change.click();
  await dialog.waitFor({ state: 'detached' });
  await page.getByText('20 s', { exact: true }).waitFor();
  await page.getByText('the newest', { exact: true }).waitFor();
  assert.deepEqual(mistakesIn(mistakes), []);
  await close();
});
