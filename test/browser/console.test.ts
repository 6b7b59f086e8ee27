/** The screen of a VM in a real browser: a real QEMU's display, brought by the agent's code through a real manager. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Page } from 'playwright-core';
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
  } finally {
    await browser.close();
    stop.abort();
    await bringing;
  }
});

/** Waits until the picture has more than one color. */
async function colored(page: Page): Promise<void> {
  await page.waitForFunction(`(() => {
    const canvas = document.querySelector('.console-screen canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size > 1;
  })()`);
}
