/** Completion of the command line for bash, zsh and fish, made of the commands themselves, so that it cannot differ. */
import type { Command } from 'commander';

/** What may follow the words of a command: its own commands, options, and words that an argument is one of. */
type Place = { path: string; words: string[]; descriptions: string[] };

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** Programs are no commands of the command line's tree, but follow the same first word. */
const PROGRAMS = ['manager', 'replication-server', 'agent'];

export function completionScript(shell: Shell, program: Command): string {
  const places = placesOf(program, []);
  places[0]!.words.push(...PROGRAMS);
  places[0]!.descriptions.push(...PROGRAMS.map(() => 'runs the program: --config FILE'));
  if (shell === 'fish') return fish(places);
  const script = bash(places);
  return shell === 'bash' ? script : zsh(script);
}

function placesOf(command: Command, path: readonly string[]): Place[] {
  const help = command.createHelp();
  const commands = help.visibleCommands(command);
  const options = help.visibleOptions(command).filter(({ long }) => long);
  const choices = command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);
  const own: Place = {
    path: path.join(' '),
    words: [...commands.map((each) => each.name()), ...choices, ...options.map(({ long }) => long!)],
    descriptions: [
      ...commands.map((each) => firstLine(each.description())),
      ...choices.map(() => ''),
      ...options.map(({ description }) => firstLine(description)),
    ],
  };
  const below = commands.filter((each) => each.name() !== 'help' && command.commands.includes(each));
  return [own, ...below.flatMap((each) => placesOf(each, [...path, each.name()]))];
}

function firstLine(text: string): string {
  return text.split('\n')[0]!;
}

/**
 * The longest beginning of the words that is a command decides. A word after an option that takes a file is completed
 * with files by the shell itself, which is what `-o default` does when nothing of ours fits.
 */
function bash(places: readonly Place[]): string {
  const cases = places.map(({ path, words }) => `    ${quoted(path)}) words=${quoted(words.join(' '))} ;;`);
  return `# Completion of antipode, made by: antipode completion bash
_antipode_words() {
  words=
  case $1 in
${cases.join('\n')}
    *) return 1 ;;
  esac
}
_antipode() {
  local words path='' try word at
  for ((at = 1; at < COMP_CWORD; at++)); do
    word=\${COMP_WORDS[at]}
    case $word in -*) continue ;; esac
    try=\${path:+$path }$word
    if _antipode_words "$try"; then path=$try; fi
  done
  _antipode_words "$path"
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _antipode antipode
`;
}

/** zsh runs bash's completion by a module of its own. */
function zsh(script: string): string {
  const body = script.replace(/^#.*\n/, '').replace(/complete -o default.*\n$/, '');
  return `#compdef antipode
# Completion of antipode, made by: antipode completion zsh
autoload -U +X bashcompinit && bashcompinit
${body}complete -o default -F _antipode antipode
`;
}

function fish(places: readonly Place[]): string {
  const lines = places.flatMap(({ path, words, descriptions }) =>
    words.map((word, index) => {
      const said = descriptions[index] === '' ? '' : ` -d ${quoted(descriptions[index]!)}`;
      const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-f -a ${word}`;
      return `complete -c antipode -n ${quoted(`__antipode_at "${path}"`)} ${what}${said}`;
    }),
  );
  const paths = places.map(({ path }) => quoted(path)).join(' ');
  return `# Completion of antipode, made by: antipode completion fish
set -g __antipode_paths ${paths}
function __antipode_at
    set -l path ''
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $word; and continue
        set -l try (string trim -- "$path $word")
        contains -- $try $__antipode_paths; and set path $try
    end
    test "$path" = "$argv[1]"
end
${lines.join('\n')}
`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
