/** The table of VMs with 10,000 of them: few rows in the document, few requests, whatever its length. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestSite } from '#/manager/site-fixture.ts';
import { becomeAdministrator, launch, openPage } from './browser.ts';
import { manyVms } from './stage.ts';

const VMS = 10_000;
const ROWS_MAX = 120;

test('10,000 VMs are on the screen with one request for their rows, and scrolling asks for pages only', async (t) => {
  await using site = await TestSite.start('west');
  const agent = await site.agent('west-host');
  agent.report.vms = manyVms(VMS);
  await agent.send();
  const browser = await launch();
  try {
    const { page } = await openPage(browser);
    await becomeAdministrator(page, (await site.api<{ url: string }>('POST', '/first-links')).url);
    const asked: string[] = [];
    page.on('request', (request) => {
      if (request.url().includes('/vm-table')) asked.push(request.url());
    });
    await page.goto(`https://127.0.0.1:${site.address.port}/vms`);
    await page.getByText('vm-00000').waitFor();
    const firstRowMs = await page.evaluate(() => performance.now());
    await page.getByText('10,000 VMs').waitFor();
    const rows = await page.locator('.vm-line').count();
    t.diagnostic(
      `first rows ${Math.round(firstRowMs)} ms after the address was opened, ${rows} in the document`,
    );
    assert(rows > 5 && rows < ROWS_MAX, `${rows} rows`);
    // One for what is shown, and one again when the stream says that everything is worth a look.
    assert(asked.length <= 3, asked.join('\n'));
    await page.locator('.vm-grid').evaluate((grid) => ((grid as { scrollTop: number }).scrollTop = 1e9));
    await page.getByText('vm-09999').waitFor();
    assert(asked.length <= 8, asked.join('\n'));
    assert((await page.locator('.vm-line').count()) < ROWS_MAX);
  } finally {
    await browser.close();
  }
});
