/** The PDF of a report, read and drawn by poppler's programs, with names in scripts of the world. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import type { ReportVm, RunReport } from '#/api/run-reports.ts';
import { Failure } from '#/lib/failure.ts';
import { silentLog } from '#/lib/log.ts';
import { encodePng, readPpm } from '#/lib/png.ts';
import { pdfOf } from './pdf.ts';
import { readFonts } from './report-fonts-disk.ts';
import { TrueTypeFont } from './true-type.ts';

const NAMES = ['база-данных', 'データベース', '数据库服务器', 'βάση', 'Größe', 'plain'];
/** No font of the test's has it. */
const NOWHERE = '\u{10FFFD}';
const [WIDTH, HEIGHT] = [64, 40];

function vm(name: string): ReportVm {
  const rgb = new Uint8Array(WIDTH * HEIGHT * 3).map((_, index) => (index % 3 === 0 ? 255 : 0));
  return {
    vm_uuid: '',
    vm_name: name,
    name: `${name}-test`,
    host_name: 'host',
    priority: 1,
    state: 'ready',
    point: 7,
    moment_ms: 990_000,
    wanted_rpo_ms: 5000,
    rpo_ms: 10_000,
    rto_ms: 900,
    steps: [
      {
        name: `Bring ${name} up`,
        state: 'done',
        started_ms: 1_000_100,
        ended_ms: 1_001_000,
        note: null,
        failure: null,
      },
    ],
    failure: null,
    hint: null,
    picture: encodePng({ width: WIDTH, height: HEIGHT, rgb }).toString('base64'),
    picture_failure: null,
  };
}

const REPORT: RunReport = {
  version: 1,
  id: 'run-1',
  site_id: 'site-east',
  site_name: 'east',
  kind: 'test',
  plan: 'магазин',
  started_by: null,
  outcome: 'passed',
  started_ms: 1_000_000,
  ended_ms: 1_090_000,
  failure: null,
  warnings: [`${'数据库'.repeat(60)} ${'слово '.repeat(40)}`, `a face: ${NOWHERE}`],
  vms: NAMES.map(vm),
  steps: [],
};

async function poppler(program: string, ...args: string[]): Promise<{ stdout: string; stderr: string }> {
  return await promisify(execFile)(program, args, { timeout: 60_000 });
}

test("another program finds all names in the text, and draws each VM's screen, without a complaint", async () => {
  const fonts = await readFonts(null, silentLog);
  assert(fonts.length >= 3, 'fonts-dejavu-core and fonts-droid-fallback are installed');
  const directory = await mkdtemp(join(tmpdir(), 'antipode-pdf-'));
  try {
    const path = join(directory, 'report.pdf');
    const bytes = pdfOf(REPORT, fonts);
    await writeFile(path, bytes);
    assert(bytes.length < 100_000, `${bytes.length} bytes: only the glyphs that are used are in it`);
    const { stdout: text, stderr } = await poppler('pdftotext', '-layout', path, '-');
    assert.equal(stderr, '');
    for (const name of NAMES) assert(text.includes(`${name}-test`), `${name} is in: ${text}`);
    assert.match(text, /Test of plan магазин: passed/);
    assert.match(text, /a face: U\+10FFFD/);
    assert.equal(text.split('数').length - 1 >= 60, true, 'a long line is wrapped, not cut');
    const { stdout: info } = await poppler('pdfinfo', path);
    assert.match(info, /^Title: +Test of plan магазин: passed$/m);
    const drawn = await poppler('pdftoppm', '-r', '40', path, join(directory, 'page'));
    assert.equal(drawn.stderr, '');
    const pages = Number(/^Pages: +(\d+)$/m.exec(info)?.[1]);
    let redPixels = 0;
    for (let page = 1; page <= pages; page++) {
      const { rgb } = readPpm(await readFile(join(directory, `page-${page}.ppm`)));
      for (let at = 0; at < rgb.length; at += 3) {
        if (rgb[at]! > 200 && rgb[at + 1]! < 50 && rgb[at + 2]! < 50) redPixels++;
      }
    }
    const onePicture = WIDTH * HEIGHT * (40 / 72) ** 2;
    const most = REPORT.vms.length * onePicture;
    assert(Math.abs(redPixels - most) < most / 5, `${redPixels} red points, of about ${most}`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('without any font the names are told by the numbers of their characters', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-pdf-'));
  try {
    const path = join(directory, 'report.pdf');
    await writeFile(path, pdfOf(REPORT));
    const { stdout } = await poppler('pdftotext', '-layout', path, '-');
    assert.match(stdout, /U\+03B2U\+03ACU\+03C3U\+03B7-test/);
    assert.match(stdout, /Größe-test/);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('a font that is cut off or changed is refused or used, and never anything else', async () => {
  const bytes = await readFile('/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf');
  const attempt = (broken: Uint8Array): void => {
    try {
      const font = new TrueTypeFont(broken, 'broken');
      const glyphs = Array.from('aéЖ').flatMap((character) => font.glyphOf(character.codePointAt(0)!) ?? []);
      for (const glyph of glyphs) font.widthOf(glyph);
      font.subset(glyphs);
    } catch (error) {
      assert(error instanceof Failure, String(error));
      assert.equal(error.code, 'storage_corrupt');
    }
  };
  for (let length = 0; length < bytes.length; length += length < 400 ? 1 : 5003)
    attempt(bytes.subarray(0, length));
  for (let at = 0; at < 400; at++) {
    const changed = Uint8Array.from(bytes);
    changed[at]! ^= 1 << (at % 8);
    attempt(changed);
  }
  attempt(Buffer.from('OTTO'.padEnd(100)));
});
