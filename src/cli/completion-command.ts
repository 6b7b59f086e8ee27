/** completion: prints what a shell completes the commands by. */
import { Argument, type Command } from 'commander';
import { examples, print } from './command.ts';
import { completionScript, SHELLS, type Shell } from './completion-scripts.ts';

export function registerCompletionCommand(program: Command): void {
  const completion = program
    .command('completion')
    .description('print the completion of these commands for a shell; the packages install it for all three')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .action((shell: Shell) => print(completionScript(shell, program)));
  examples(completion, ['antipode completion fish | source', 'source <(antipode completion bash)']);
}
