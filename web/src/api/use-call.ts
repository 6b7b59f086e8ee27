/** A call of the API whose reply is on the screen, asked again when the event stream says that it may differ. */
import { keepPreviousData, useQuery, type UseQueryResult } from '@tanstack/react-query';
import { learnNow } from '#/lib/now.ts';
import { call } from './call.ts';
import type { Topic } from './live.ts';
import type { Call, Query, Reply } from './types.ts';

export function useCall<Name extends Call & `GET ${string}`>(
  name: Name,
  topics: readonly Topic[],
  options: {
    params?: Record<string, string>;
    query?: Query<Name>;
    isEnabled?: boolean;
    /** Another era is asked for anew; what is known stays on the screen meanwhile. */
    era?: number;
  } = {},
): UseQueryResult<Reply<Name>, Error> {
  const { params, query, era, isEnabled = true } = options;
  return useQuery<Reply<Name>, Error>({
    queryKey: [name, params ?? null, query ?? null, era ?? null],
    queryFn: ({ signal }) => ask(name, { params, query, signal }),
    meta: { topics },
    enabled: isEnabled,
    ...(era !== undefined ? { placeholderData: keepPreviousData as never } : {}),
  });
}

export async function ask<Name extends Call & `GET ${string}`>(
  name: Name,
  options: {
    params?: Record<string, string> | undefined;
    query?: Query<Name> | undefined;
    signal: AbortSignal;
  },
): Promise<Reply<Name>> {
  const reply = await call(name, { ...options } as never);
  // The ages on the page count by the manager's clock, whatever the browser's says.
  if (typeof reply === 'object' && reply !== null && 'now_ms' in reply) learnNow(reply.now_ms as number);
  return reply as Reply<Name>;
}
