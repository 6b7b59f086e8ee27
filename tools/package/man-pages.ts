/**
 * Manual pages: of commands from the very words of --help, and of configuration, installation and upgrade from docs/,
 * so that none of them can say anything else.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { createProgram } from '#/cli/program.ts';
import { manualOf } from './markdown-manual.ts';
import { title, verbatim, words } from './roff.ts';

/** Documents that are manual pages as well: name, section, what it is. */
const DOCUMENTS = [
  ['antipode.json', 5, 'configuration of the programs of Antipode', 'configuration.md'],
  ['antipode-install', 7, 'from packages to the first protected VM', 'install.md'],
  ['antipode-upgrade', 7, 'to a newer version, and back', 'upgrade.md'],
] as const;

/** By their paths below usr/share/man, not compressed. */
export async function manPages(root: string): Promise<Map<string, string>> {
  const program = await createProgram();
  const pages = new Map<string, string>();
  pages.set('man1/antipode.1', mainPage(program));
  for (const command of commandsOf(program)) {
    pages.set(`man1/antipode-${command.name()}.1`, commandPage(command));
  }
  for (const [name, section, about, file] of DOCUMENTS) {
    const text = readFileSync(join(root, 'docs/operate', file), 'utf8');
    pages.set(
      `man${section}/${name}.${section}`,
      `${title(name, section)}${nameSection(name, about)}${manualOf(text)}`,
    );
  }
  return pages;
}

/** What --help prints, with the examples that follow it. */
export function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({
    writeOut: (chunk) => (text += chunk),
    getOutHelpWidth: () => 78,
    getOutHasColors: () => false,
  });
  command.outputHelp();
  return text;
}

function mainPage(program: Command): string {
  const also = commandsOf(program).map((command) => `.BR antipode-${words(command.name())} (1)`);
  const documents = DOCUMENTS.map(([name, section]) => `.BR ${words(name)} (${section})`);
  return `${title('antipode', 1)}${nameSection('antipode', 'site recovery for KVM')}.SH DESCRIPTION
${verbatim(helpOf(program))}.SH SEE ALSO
${[...documents, ...also].join(' ,\n')}
`;
}

function commandPage(command: Command): string {
  const name = `antipode-${command.name()}`;
  const about = command.description().split('\n')[0]!;
  const below = allBelow(command, `antipode ${command.name()}`);
  const sections = below.map(([path, each]) => `.SH ${words(path.toUpperCase())}\n${verbatim(helpOf(each))}`);
  return `${title(name, 1)}${nameSection(name, about)}.SH DESCRIPTION
${verbatim(helpOf(command))}${sections.join('')}.SH SEE ALSO
.BR antipode (1)
`;
}

function allBelow(command: Command, path: string): [path: string, command: Command][] {
  return commandsOf(command).flatMap((each) => {
    const at = `${path} ${each.name()}`;
    return [[at, each], ...allBelow(each, at)] as [string, Command][];
  });
}

function commandsOf(command: Command): readonly Command[] {
  return command.commands.filter((each) => each.name() !== 'help');
}

function nameSection(name: string, about: string): string {
  return `.SH NAME\n${words(name)} \\- ${words(about)}\n`;
}
