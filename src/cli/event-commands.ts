/** events: what happened, and as it happens. */
import type { Command } from 'commander';
import type { EventView } from '#/api/events.ts';
import {
  examples,
  interrupted,
  managerOf,
  print,
  printJson,
  withManager,
  type CommonOptions,
} from './command.ts';
import { countIn, time } from './duration.ts';
import { printable } from './table.ts';

type EventOptions = CommonOptions & { follow?: boolean; after?: string; limit: string };

export function registerEventCommands(program: Command): void {
  const events = withManager(
    program
      .command('events')
      .description('what happened at the site, with exact times')
      .option('--follow', 'and what happens from now on, until interrupted')
      .option('--after <sequence>', 'only what was recorded after this event')
      .option('--limit <count>', 'at most so many', '50'),
  ).action(showEvents);
  examples(events, ['antipode events', 'antipode events --follow', 'antipode events --after 1200 --json']);
}

async function showEvents(options: EventOptions): Promise<void> {
  const api = await managerOf(options);
  const query = new URLSearchParams({ limit: String(countIn('--limit', options.limit)) });
  if (options.after !== undefined) query.set('after', options.after);
  const { items } = await api.get<{ items: EventView[] }>(`/events?${query.toString()}`);
  if (options.follow !== true && options.json === true) return printJson(items);
  for (const event of items) show(event, options);
  if (options.follow !== true) return;
  const last = items.at(-1)?.sequence ?? (options.after === undefined ? undefined : Number(options.after));
  for await (const message of api.stream(last, interrupted())) {
    if (message.kind === 'event') show(message.data as EventView, options);
  }
}

/** One line for each: JSON lines when followed by a program. */
function show(event: EventView, options: EventOptions): void {
  if (options.json === true) return print(JSON.stringify(event));
  const severity = event.severity === 'info' ? '' : `${event.severity.toUpperCase()}: `;
  print(`${time(event.at_ms)}  ${event.kind.padEnd(24)}  ${severity}${printable(event.message)}`);
}
