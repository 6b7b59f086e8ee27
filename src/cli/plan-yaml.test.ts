import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { PlanFile } from '#/api/plan-files.ts';
import { FILE_BYTES_MAX, parsePlanText, planText } from './plan-yaml.ts';
import { misshapes } from './plan-shape.ts';

/** Everything that a plan may hold, with texts that YAML could take for something else. */
const FULL: PlanFile = {
  mappings: [
    { site: 'west', kind: 'network', there: 'null', here: '0x1f' },
    { site: 'west', kind: 'storage', there: '/var/lib/libvirt/images', here: '/srv/a b' },
  ],
  groups: [
    {
      name: '1e3',
      description: '# no comment\n\ttwo: lines  ',
      site: 'no',
      vms: ['true', '~', 'bücher', '10'],
    },
  ],
  plan: {
    name: '2026-11-22',
    description: 'yes: "quoted" \'both\' \\ and \u0007\u2028',
    groups: ['1e3'],
    vms: {
      '10': {
        priority: 1,
        depends_on: ['true', '~'],
        start: 'off',
        networks: { lan: 'lan-b', '*any': '&anchor' },
        health: [
          { kind: 'agent' },
          { kind: 'tcp', port: 22, address: '10.2.0.5', timeout_ms: 1 },
          { kind: 'serial', text: 'login: ' },
        ],
        after: [
          { kind: 'guest', name: 'x', path: '/bin/true', arguments: ['', ' ', '- a', '!tag', '{}', '012'] },
        ],
        host_name: 'db.example.org',
        addresses: [{ nic: '52:54:00:12:34:56', ipv4: ['10.2.0.5/24'], gateway4: null, dns: ['::1'] }],
      },
    },
    before: [{ kind: 'message', name: 'm', text: 'Is it\n\nso? ' }],
    priorities: { '1': { before: [{ kind: 'command', name: 'c', command: 'dns-switch' }] } },
    ip_rules: [{ from: '10.1.0.0/24', to: '10.2.0.0/24', gateway: null }],
    test: { networks: 'each', router: { lan: '10.2.0.1/24' } },
    proven_for_ms: 9_007_199_254_740_991,
  },
};

test('a plan with everything in it comes back from text as it went in', () => {
  assert.deepEqual(misshapes(PlanFile, FULL), []);
  const text = planText(FULL);
  assert.deepEqual(parsePlanText(text, 'all.yaml').value, FULL);
  assert.equal(planText(parsePlanText(text, 'all.yaml').value as PlanFile), text);
});

test('the example of the documents is one', async () => {
  const page = await readFile(new URL('../../docs/recovery-plans.md', import.meta.url), 'utf8');
  const [, example = ''] = /```yaml\n([\s\S]*?)```/.exec(page) ?? [];
  const { value } = parsePlanText(example, 'recovery-plans.md');
  assert.deepEqual(misshapes(PlanFile, value), []);
  assert.deepEqual((value as PlanFile).plan.vms?.['web']?.depends_on, ['app']);
});

test('numbers of priorities need no quotes, and off is a word', () => {
  const text = 'plan: { name: a, groups: [b], priorities: { 1: {} }, vms: { web: { start: off } } }';
  const { value } = parsePlanText(text, 'a.yaml');
  assert.deepEqual(misshapes(PlanFile, value), []);
  assert.deepEqual(value, {
    plan: { name: 'a', groups: ['b'], priorities: { 1: {} }, vms: { web: { start: 'off' } } },
  });
});

test('every place in a file has its line, also behind an anchor, and a missing one that of what is around it', () => {
  const { lineOf } = parsePlanText(
    [
      'plan:',
      '  name: all',
      '  groups:',
      '    - shop',
      '    - front',
      '  vms:',
      '    a/b: &a',
      '      priority: 1',
      '    web: *a',
    ].join('\n'),
    'all.yaml',
  );
  for (const [pointer, line] of [
    ['', 1],
    ['/plan', 1],
    ['/plan/name', 2],
    ['/plan/groups/1', 5],
    ['/plan/groups/7', 3],
    ['/plan/vms/a~1b/priority', 8],
    ['/plan/vms/web', 9],
    ['/plan/vms/web/priority', 8],
    ['/plan/vms/db/depends_on/0', 6],
    ['/groups', 1],
  ] as const) {
    assert.equal(lineOf(pointer), line, pointer);
  }
});

const BAD: Record<string, { text: string; message: RegExp }> = {
  'no YAML': { text: 'plan:\n  name: [a\n', message: /^all\.yaml:\d: / },
  'a key that stands twice': { text: 'plan:\n  name: a\n  name: b\n', message: /^all\.yaml:3: .*unique/ },
  'two documents': { text: 'plan: {}\n---\nplan: {}\n', message: /^all\.yaml:2: / },
  'an alias without an anchor': { text: 'plan: *nothing\n', message: /alias/i },
  'a tab for indentation': { text: 'plan:\n\tname: a\n', message: /^all\.yaml:2: / },
  'too many bytes': { text: `# ${'x'.repeat(FILE_BYTES_MAX)}`, message: /longer than 2097152 bytes/ },
  'aliases that multiply': {
    text: Array.from({ length: 12 }, (_, level) => {
      const item = level === 0 ? 'x' : `*a${level - 1}`;
      return `a${level}: &a${level} [${Array.from({ length: 9 }, () => item).join(', ')}]`;
    }).join('\n'),
    message: /aliases of all\.yaml/,
  },
};

for (const [what, { text, message }] of Object.entries(BAD)) {
  test(`${what} is refused with the place`, () => {
    assert.throws(() => parsePlanText(text, 'all.yaml'), { code: 'usage_invalid', message });
  });
}

test('what has not the shape of a plan is told in words, each with its place', () => {
  const value = {
    plan: {
      name: 'a b',
      groups: ['s', 's'],
      vms: { web: { priority: 9, start: 'maybe', health: [{ kind: 'tcp', port: 99_999 }], 'ip/v4': 1 } },
      before: [{ kind: 'nope' }, { kind: 'http', name: 'x' }, 3],
    },
    groups: {},
  };
  assert.deepEqual(
    misshapes(PlanFile, value).map(({ at, message }) => `${at}: ${message.split(';')[0]}`),
    [
      '/plan/name: must match pattern "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"',
      '/plan/groups: must not have duplicate items',
      '/plan/vms/web/priority: must be <= 5',
      '/plan/vms/web/start: must be one of: on, off',
      '/plan/vms/web/health/0/port: must be <= 65535',
      '/plan/vms/web/ip~1v4: is not known here',
      '/plan/before/0: must have a "kind" of: command, guest, message, http',
      '/plan/before/1: lacks "url"',
      '/plan/before/2: must be a mapping with a "kind"',
      '/groups: must be array',
    ],
  );
  assert.deepEqual(misshapes(PlanFile, null), [{ at: '', message: 'must be object' }]);
  assert.equal(
    misshapes(PlanFile, { plan: FULL.plan, groups: Array(99).fill(3) }).length,
    50,
    'and not without end',
  );
});
