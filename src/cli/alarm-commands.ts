/** alarms: what is wrong until it is not any more; alarms acknowledge: somebody has it in hand. */
import type { Command } from 'commander';
import type { AlarmView } from '#/api/alarms.ts';
import { examples, managerOf, print, printJson, withManager, type CommonOptions } from './command.ts';
import { time } from './duration.ts';
import { table } from './table.ts';

export function registerAlarmCommands(program: Command): void {
  const alarms = withManager(
    program
      .command('alarms')
      .description('what is wrong at the site, until it is not any more')
      .option('--all', 'also those that are over'),
  ).action(async (options: CommonOptions & { all?: boolean }) => {
    const api = await managerOf(options);
    const { items } = await api.get<{ items: AlarmView[] }>('/alarms');
    const shown = items.filter((alarm) => options.all === true || alarm.cleared_ms === null);
    if (options.json === true) return printJson(shown);
    const rows = shown.map((alarm) => [
      alarm.id,
      alarm.severity,
      time(alarm.raised_ms),
      standing(alarm),
      alarm.message,
    ]);
    print(table(['ID', 'SEVERITY', 'SINCE', 'STATE', ''], rows, 'nothing is wrong'));
  });
  examples(alarms, [
    'antipode alarms',
    'antipode alarms --all --json',
    'antipode alarms acknowledge alarm-1f0c2b3a4d5e',
  ]);
  const acknowledge = withManager(
    alarms
      .command('acknowledge')
      .description('say that you have an alarm in hand; it stands until it is cleared')
      .argument('<alarm>', 'its id')
      .option('--note <text>', 'what is being done'),
  ).action(async (id: string, own: CommonOptions & { note?: string }, command: Command) => {
    const options = { ...command.parent?.opts<CommonOptions>(), ...own };
    const api = await managerOf(options);
    const body = options.note === undefined ? {} : { note: options.note };
    const alarm = await api.post<AlarmView>(`/alarms/${encodeURIComponent(id)}/acknowledge`, body);
    if (options.json === true) return printJson(alarm);
    print(`${alarm.id} is acknowledged: ${alarm.message}`);
  });
  examples(acknowledge, ['antipode alarms acknowledge alarm-1f0c2b3a4d5e --note "new disk is on its way"']);
}

function standing(alarm: AlarmView): string {
  if (alarm.cleared_ms !== null) return `over since ${time(alarm.cleared_ms)}`;
  return alarm.acknowledged_by === null ? 'stands' : `in hand: ${alarm.acknowledged_by}`;
}
