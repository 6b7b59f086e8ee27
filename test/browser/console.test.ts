/** The screen of a VM in a real browser: a real QEMU's display, brought by the agent's code through a real manager. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Page } from 'playwright-core';
import type { RunReport } from '#/api/run-reports.ts';
import { encodePng } from '#/lib/png.ts';
import { addRecovery, bringConsoles, domainOf } from '#/manager/console-fixture.ts';
import { startQemuScreen } from '#test/qemu-screen.ts';
import { becomeAdministrator, launch, openPage, shoot } from './browser.ts';
import { openStage } from './stage.ts';

test('the screen of a tested VM is seen and typed at in the browser, and its end is told in words', async () => {
  await using stage = await openStage();
  await using qemu = await startQemuScreen();
  const { items } = await stage.east.api<{ items: { replica_id: string }[] }>('GET', '/replicas');
  const replicaId = items[0]!.replica_id;
  for (const id of ['job-seen', 'job-blind'])
    await addRecovery(stage.east, stage.eastAgent, { id, replicaId });
  const stop = new AbortController();
  const domains = [domainOf('job-seen', qemu.socketPath), domainOf('job-blind', undefined)];
  const bringing = bringConsoles(stage.eastAgent, domains, stop.signal);
  const browser = await launch();
  try {
    const { mistakes, page } = await openPage(browser);
    await becomeAdministrator(page, await stage.firstLink(stage.east));
    const url = stage.url(stage.east);
    await page.goto(`${url}/recoveries/job-seen/console`);
    await page.getByText('live from east-host').waitFor();
    await page.locator('.console-screen canvas').waitFor();
    await colored(page);
    await shoot(page, 'console');
    // Every key is the VM's, but the way out.
    const isInside = () => page.evaluate(`document.activeElement.tagName === 'CANVAS'`);
    assert(await isInside());
    await page.keyboard.press('Tab');
    assert(await isInside());
    await page.keyboard.press('Control+Alt+Home');
    assert(!(await isInside()));
    await page.getByRole('button', { name: 'Ctrl+Alt+Del' }).click();
    assert(await isInside());
    await page.emulateMedia({ colorScheme: 'dark' });
    await shoot(page, 'console-dark');
    qemu.kill();
    await page.getByText('the VM was stopped, or its host is away').waitFor();
    await page.getByRole('button', { name: 'Open again' }).waitFor();
    await shoot(page, 'console-ended');
    assert.deepEqual(
      mistakes.filter((text) => !text.includes('401')),
      [],
    );
    await page.goto(`${url}/recoveries/job-blind/console`);
    await page.getByText('has no screen').waitFor();
    await stage.east.manager.reports.keep(reportOf('job-seen'));
    await page.goto(`${url}/recoveries/job-seen`);
    const picture = page.getByRole('img', { name: 'Screen of ledger-test' });
    await picture.waitFor();
    assert.equal(await picture.evaluate((image: { naturalWidth: number }) => image.naturalWidth), 64);
    await shoot(page, 'recovery-picture');
  } finally {
    await browser.close();
    stop.abort();
    await bringing;
  }
});

function reportOf(id: string): RunReport {
  const png = encodePng({ width: 64, height: 48, rgb: new Uint8Array(64 * 48 * 3).fill(90) });
  const common = { host_name: 'east-host', priority: null, state: 'up', point: 1, moment_ms: 1, steps: [] };
  const measured = { wanted_rpo_ms: 5000, rpo_ms: 1, rto_ms: 1, failure: null, hint: null };
  const vm = { ...common, ...measured, vm_uuid: '', vm_name: 'ledger', name: 'ledger-test' };
  return {
    version: 1,
    id,
    site_id: 'site-east',
    site_name: 'east',
    kind: 'test',
    plan: null,
    started_by: null,
    outcome: 'passed',
    started_ms: 1,
    ended_ms: 2,
    failure: null,
    warnings: [],
    vms: [{ ...vm, picture: png.toString('base64'), picture_failure: null }],
    steps: [],
  };
}

/** Waits until the picture has more than one color. */
async function colored(page: Page): Promise<void> {
  await page.waitForFunction(`(() => {
    const canvas = document.querySelector('.console-screen canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size > 1;
  })()`);
}
