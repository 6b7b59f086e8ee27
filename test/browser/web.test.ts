/** The web page in a real browser, on real managers whose hosts and replication servers are played. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Browser } from 'playwright-core';
import {
  becomeAdministrator,
  confirm,
  launch,
  mistakesIn,
  openPage,
  PAGES,
  shoot,
  signIn,
} from './browser.ts';
import { openStage, uuidOf, type Stage } from './stage.ts';

let browser: Browser;
let stage: Stage;

before(async () => {
  stage = await openStage();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await stage?.[Symbol.asyncDispose]();
});

test('the first administrator gets in by the link, and what is wrong is said beside the field', async () => {
  const { close, mistakes, page } = await openPage(browser);
  await page.goto(await stage.firstLink(stage.east));
  await page.getByLabel('Name').fill('a b');
  await page.getByLabel('Password', { exact: true }).fill('short');
  await page.getByText('It has 5 of at least 12 characters.').waitFor();
  await page.getByText('without spaces').waitFor();
  assert(await page.getByRole('button', { name: 'Become administrator' }).isDisabled());
  await shoot(page, 'first-administrator');
  await becomeAdministrator(page, await stage.firstLink(stage.east));
  await becomeAdministrator(page, await stage.firstLink(stage.west));
  assert.deepEqual(mistakesIn(mistakes), []);
  await close();
});

test('ages count between events, and the overview follows the reports by itself', async () => {
  const { close, mistakes, page } = await openPage(browser);
  await signIn(page, stage.url(stage.east));
  const mail = page.locator('.worst-list li').filter({ hasText: 'mail' });
  await mail.waitFor();
  const first = (await mail.locator('.age-words').textContent())!;
  // Other words, without a reload.
  await mail.locator('.age-words').filter({ hasNotText: first }).waitFor();
  await page.getByRole('link', { name: /VM mail is older/ }).waitFor();
  await page.getByText('7/8').waitFor();
  // The stage's late VM gets a point: the page says so without being asked.
  stage.catchUp('mail');
  await page.getByText('8/8').waitFor();
  assert.deepEqual(mistakesIn(mistakes), []);
  await close();
});

test('every VM is in the table, searched and filtered by its address, and says why it cannot be protected', async () => {
  const { close, mistakes, page } = await openPage(browser);
  await signIn(page, `${stage.url(stage.west)}/vms?standing=refused`);
  await page.getByText('san-volume').waitFor();
  assert.equal(await page.locator('.vm-line').count(), 1);
  const box = page.getByRole('checkbox');
  assert(await box.isDisabled());
  assert.match((await box.getAttribute('aria-label'))!, /cannot be protected: Disk vdb is a host device/);
  await page.getByLabel('Show').selectOption('');
  await page.getByText('shop-db').waitFor();
  await page.getByLabel('Search by name, host or UUID').fill('shop');
  await page.getByText('2 VMs').waitFor();
  assert.match(page.url(), /search=shop/);
  assert.deepEqual(mistakesIn(mistakes), []);
  await close();
});

test('a moment is chosen on the timeline by key and wheel, and its test is started and followed live', async () => {
  const { close, mistakes, page } = await openPage(browser);
  await signIn(page, `${stage.url(stage.east)}/vms/${uuidOf(0)}`);
  const timeline = page.getByRole('slider');
  await timeline.focus();
  await page.getByText(/Newest/).waitFor();
  await page.keyboard.press('ArrowLeft');
  await page.getByText('Back to the newest').waitFor();
  assert.match(page.url(), /point=\d+/);
  assert.equal(await page.getByRole('button', { name: 'Migrate…' }).getAttribute('aria-disabled'), 'true');
  const labels = () => page.locator('.timeline-label').allTextContents();
  const before = await labels();
  await timeline.hover();
  for (let turn = 0; turn < 8; turn++) await page.mouse.wheel(0, -200);
  await page
    .locator('.timeline-label')
    .filter({ hasText: /\d:\d\d:\d\d/ })
    .first()
    .waitFor();
  assert.notDeepEqual(await labels(), before);
  await page.getByRole('button', { name: 'Test…' }).click();
  await page.getByText('on a network of its own').waitFor();
  await page.getByLabel('Name at east').fill('a/b');
  await page.getByText('A name has no slashes').waitFor();
  assert(await page.getByRole('button', { name: 'Start the test' }).isDisabled());
  await page.getByLabel('Name at east').fill('ledger-look');
  await page.getByRole('button', { name: 'Start the test' }).click();
  await page.getByRole('heading', { name: 'Test of ledger' }).waitFor();
  await page.getByText('open view').waitFor();
  await page.getByRole('button', { name: 'Clean up…' }).click();
  await confirm(page, 'Clean up');
  await page
    .getByText(/cleaning|cleaned/)
    .first()
    .waitFor();
  assert.deepEqual(mistakesIn(mistakes), []);
  await close();
});

test('protecting is checked while one types, refused beside the field, and done for those that can be', async () => {
  const { close, page } = await openPage(browser);
  await signIn(page, `${stage.url(stage.west)}/protect?vm=scratch&vm=san-volume`);
  const protect = page.getByRole('button', { name: /^Protect/ });
  await page.getByLabel('RPO').fill('5');
  await page.getByText('A number and a unit').waitFor();
  assert.equal(await protect.getAttribute('aria-disabled'), 'true');
  await page.getByLabel('RPO').fill('30 s');
  await page.getByText(/cannot be protected: Disk vdb/).waitFor();
  await page.getByRole('button', { name: 'Protect 1 VM' }).click();
  await page.getByText('is protected.').waitFor();
  await page.getByRole('link', { name: 'Virtual machines' }).first().click();
  await page.getByText('No point yet', { exact: true }).waitFor();
  await close();
});

test('a plan is edited as YAML: what is wrong is said in words, what would change before it does', async () => {
  const { close, page } = await openPage(browser);
  await signIn(page, `${stage.url(stage.east)}/plan-file?plan=shop`);
  const text = page.getByLabel('Plan, groups and mappings');
  const whole = await text.inputValue();
  await text.fill('plan: [');
  await page.getByText(/line 1/).waitFor();
  await text.fill(whole.replace('name: shop', 'name: shop').replace('priority: 3', 'priority: 4'));
  await page.getByText('plan shop: changed').waitFor();
  await page.getByRole('button', { name: 'Apply' }).click();
  await page.getByText('Priority 4').waitFor();
  await close();
});

test('a plan is edited in a form: a cycle is refused before it is sent, and the file is its other face', async () => {
  const { close, mistakes, page } = await openPage(browser);
  await signIn(page, `${stage.url(stage.east)}/plan-form?plan=office`);
  await page.getByLabel('mail after wiki').check();
  await page.getByLabel('wiki after mail').check();
  await page
    .getByText(/These wait for each other: mail after wiki after mail/)
    .first()
    .waitFor();
  const save = page.getByRole('button', { name: 'Save…' });
  assert.equal(await save.getAttribute('aria-disabled'), 'true');
  await page.getByLabel('wiki after mail').uncheck();
  const port = page.getByLabel('and this TCP port').first();
  await port.fill('99999');
  await page.getByText('A port is from 1 to 65535.').waitFor();
  assert.equal(await save.getAttribute('aria-disabled'), 'true');
  await port.fill('');
  await page.getByLabel('Priority of wiki').selectOption('1');
  await page.getByText('plan office: changed').waitFor();
  await shoot(page, 'plan-form');
  await page.getByRole('button', { name: 'As a file' }).click();
  assert.match(await page.getByLabel('Plan, groups and mappings').inputValue(), /depends_on:\s+- wiki/);
  await page.getByRole('button', { name: 'As a form' }).click();
  assert(await page.getByLabel('mail after wiki').isChecked(), 'what was not saved came along');
  await page.locator('button:not([aria-disabled=true])', { hasText: 'Save…' }).click();
  await confirm(page, 'Save');
  await page.getByRole('heading', { name: 'office', exact: true }).waitFor();
  await page.getByText('Priority 1').waitFor();
  assert.deepEqual(mistakesIn(mistakes), []);
  await close();
});

test('a plan is looked at, tested, its question answered, and the run followed and cleaned up', async () => {
  const { close, mistakes, page } = await openPage(browser);
  await signIn(page, `${stage.url(stage.east)}/plans`);
  await page.getByRole('link', { name: 'shop' }).first().click();
  await page.locator('.plan-vm').nth(2).waitFor();
  await page.getByText('Priority 4').waitFor();
  await page.getByRole('button', { name: 'Test…' }).click();
  await page.getByText('3 VMs would come up').waitFor();
  await page.getByRole('button', { name: 'Start the test' }).click();
  await page.getByRole('heading', { name: 'Test of shop' }).waitFor();
  await page.getByText("Is the network people's work done?").waitFor();
  await page.getByRole('button', { name: 'Go on…' }).click();
  await confirm(page, 'Go on');
  await page.getByRole('button', { name: 'Go on…' }).waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Clean up…' }).click();
  await confirm(page, 'Clean up');
  await page
    .getByText(/^clean(ing|ed)$/)
    .first()
    .waitFor();
  // No other run begins meanwhile, and the buttons say why.
  await page.getByRole('link', { name: 'shop', exact: true }).click();
  await page.getByRole('button', { name: 'Recover…' }).hover();
  await page.getByText(/^A test of it is clean/).waitFor();
  assert.deepEqual(mistakesIn(mistakes), []);
  await close();
});

test('a disaster recovery is begun by its typed name, and steered from its page with reasons that the audit log keeps', async () => {
  const { close, mistakes, page } = await openPage(browser);
  await signIn(page, `${stage.url(stage.east)}/plans/office`);
  const reprotect = page.getByRole('button', { name: 'Reprotect…' });
  await reprotect.hover();
  await page.getByText('It has moved no VMs here yet.').waitFor();
  await page.getByRole('button', { name: 'Recover…' }).click();
  await page.getByText(/The oldest point is .* old, of .*: what was written since is lost/).waitFor();
  const start = page.getByRole('button', { name: 'Start', exact: true });
  const typed = page.getByLabel('Type the name of the plan');
  await typed.fill('offset');
  await page.getByText('That is not office.').waitFor();
  assert(await start.isDisabled());
  await page.getByLabel('From the points of this moment').fill('2099-01-01T00:00');
  await page.getByText('That moment has not come yet.').waitFor();
  await page.getByLabel('From the points of this moment').fill('');
  await typed.fill('office');
  await page.getByLabel('Reason').fill('rehearsal of the storage team, ü');
  await shoot(page, 'disaster-dialog');
  await start.click();
  await page.getByRole('heading', { name: 'Disaster recovery of office' }).waitFor();
  await page.getByRole('button', { name: 'Stop here…' }).click();
  await confirm(page, 'Stop here');
  await page.getByRole('button', { name: 'Skip…' }).click();
  assert(await page.getByRole('button', { name: 'Skip the step' }).isDisabled(), 'without a reason');
  await page.getByLabel('Reason').fill('the network people are asleep');
  await shoot(page, 'skip-dialog');
  await confirm(page, 'Skip the step');
  await page.getByText('skipped by alice: the network people are asleep').waitFor();
  await page.getByRole('button', { name: 'Cancel…' }).click();
  await confirm(page, 'Cancel the run');
  await page.getByText('cancelled', { exact: true }).waitFor();
  await shoot(page, 'run-cancelled');
  await page.goto(`${stage.url(stage.east)}/audit`);
  await page.getByText('rehearsal of the storage team, ü').first().waitFor();
  await page.goto(`${stage.url(stage.east)}/plans`);
  await page.getByRole('button', { name: 'Bring VMs home…' }).click();
  await page.getByLabel('Plan that moved them').fill('a b');
  await page.getByText('Letters, digits and').waitFor();
  await page.getByLabel('Plan that moved them').fill('nothing');
  await page.getByRole('button', { name: 'Look at it' }).click();
  await page.getByText(/no paired site has VMs of this one by a plan nothing/).waitFor();
  assert.deepEqual(
    mistakesIn(mistakes).filter((text) => !text.includes('404')),
    [],
  );
  await close();
});

test('an administrator adds a user, who chooses a password by a link; tokens and sessions are made and ended', async () => {
  const { close, mistakes, page } = await openPage(browser);
  await signIn(page, `${stage.url(stage.east)}/access`);
  await page.getByRole('button', { name: 'Add a user…' }).click();
  await page.getByLabel('Name').fill('b ob');
  await page.getByText('without spaces').waitFor();
  assert(await page.getByRole('button', { name: 'Add', exact: true }).isDisabled());
  await page.getByLabel('Name').fill('bob');
  await page.getByLabel('Role 1', { exact: true }).selectOption('recovery-operator');
  await page.getByLabel('What role 1 is on').selectOption({ label: 'on group shop' });
  await shoot(page, 'user-dialog');
  await confirm(page, 'Add');
  await page.getByText('It is shown only now.').waitFor();
  await page.getByRole('button', { name: 'I have it' }).click();
  await page.getByText('recovery-operator on shop').waitFor();
  await page.getByRole('button', { name: 'Reset link bob' }).click();
  await confirm(page, 'Make the link');
  const link = await page.getByLabel('The secret').inputValue();
  await page.getByRole('button', { name: 'I have it' }).click();

  const bob = await openPage(browser);
  await bob.page.goto(link);
  await bob.page.getByLabel('Password', { exact: true }).fill('four plain words of bob');
  await bob.page.getByLabel('Password again').fill('four plain words of bob');
  await bob.page.getByRole('button', { name: 'Choose it' }).click();
  await bob.page.getByRole('heading', { name: 'Overview' }).waitFor();
  // What is not of his group alone is not in his lists.
  await bob.page.goto(`${stage.url(stage.east)}/plans`);
  await bob.page.getByRole('link', { name: 'shop', exact: true }).first().waitFor();
  assert.equal(await bob.page.getByRole('link', { name: 'office', exact: true }).count(), 0);
  await bob.page.goto(`${stage.url(stage.east)}/account`);
  await bob.page.getByText('bob, as recovery-operator on shop.').waitFor();
  await bob.page.getByLabel('New password', { exact: true }).fill('short');
  await bob.page.getByText('It has 5 of at least 12 characters.').waitFor();
  await bob.close();

  await page.getByRole('button', { name: 'Make a token…' }).click();
  await page.getByLabel('Name').fill('ci');
  await page.getByLabel('Good for').fill('soon');
  await page.getByText('A number and a unit').waitFor();
  await page.getByLabel('Good for').fill('8 h');
  await confirm(page, 'Make it');
  await page.getByRole('button', { name: 'I have it' }).click();
  await page.getByRole('button', { name: 'Revoke ci' }).click();
  await confirm(page, 'Revoke');
  await page.getByRole('button', { name: 'Revoke ci' }).waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Lock bob' }).click();
  await confirm(page, 'Lock');
  await page.getByText('locked', { exact: true }).waitFor();
  await shoot(page, 'access-users');
  assert.deepEqual(mistakesIn(mistakes), []);
  const failed = await openPage(browser);
  await failed.page.goto(`${stage.url(stage.east)}/?sign-in=forbidden`);
  await failed.page.getByText('none of your groups has a role here').waitFor();
  await failed.close();
  await close();
});

for (const colors of ['light', 'dark'] as const) {
  test(`every page draws itself in ${colors} without a mistake`, async () => {
    const { close, mistakes, page } = await openPage(browser, colors);
    await signIn(page, stage.url(stage.east));
    await page.locator('.worst-list li').first().waitFor();
    await shoot(page, `overview-${colors}`);
    for (const site of [stage.east, stage.west]) {
      if (site === stage.west) await signIn(page, stage.url(site));
      await page.getByRole('link', { name: 'Virtual machines' }).click();
      await page.locator('.vm-line .age-bar').first().waitFor();
      await shoot(page, `vms-${site.config.siteName}-${colors}`);
      await page.getByRole('link', { name: 'shop-db' }).click();
      await page.getByRole('heading', { name: 'Events' }).waitFor();
      await shoot(page, `vm-${site.config.siteName}-${colors}`);
      for (const [name, address] of PAGES) {
        await page.goto(`${stage.url(site)}/${address}`);
        await page.getByRole('heading', { level: 1, name }).waitFor();
        await page.waitForLoadState('load');
        await shoot(page, `${address.replaceAll('/', '-')}-${site.config.siteName}-${colors}`);
      }
    }
    assert.deepEqual(mistakesIn(mistakes), []);
    await close();
  });
}
