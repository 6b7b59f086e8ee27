import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { completionScript } from './completion-scripts.ts';
import { createProgram } from './program.ts';

/** What bash offers after these words, the last of which is being written. */
function offered(script: string, ...words: string[]): string[] {
  const ask = `${script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _antipode; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const argv = ['--norc', '-c', ask, 'bash', 'antipode', ...words];
  return execFileSync('bash', argv, { encoding: 'utf8' })
    .split('\n')
    .filter((word) => word !== '');
}

test('bash completes commands, their commands, their options and fixed words, as --help has them', async () => {
  const program = await createProgram('completion');
  const script = completionScript('bash', program);
  const names = program.commands.map((command) => command.name());
  for (const name of names) assert(offered(script, '').includes(name), name);
  assert.deepEqual(offered(script, 'rec'), ['recover', 'recoveries']);
  assert.deepEqual(offered(script, 'plan', 'addresses', 'i'), ['import']);
  assert(offered(script, 'recover', 'web', '--').includes('--test'));
  assert(offered(script, 'plan', 'test', '--site', 'east', 'nightly', '--').includes('--json'));
  assert.deepEqual(offered(script, 'join-token', 'a'), ['agent']);
});

test('zsh gets the same words by its way of running them, and fish each with what it is', async () => {
  const program = await createProgram('completion');
  assert.match(completionScript('zsh', program), /^#compdef antipode\n/);
  const fish = completionScript('fish', program);
  assert.match(fish, /complete -c antipode -n '__antipode_at "plan"' -f -a test -d '/);
  assert.match(fish, /complete -c antipode -n '__antipode_at "recover"' -l test -d '/);
});
