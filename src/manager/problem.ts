/** A Failure as the API shows it. */
import type { Problem } from '#/api/common.ts';
import { describe, failureIn, type Failure } from '#/lib/failure.ts';

/** The message has the whole chain of reasons; the hint is the nearest one that the chain has. */
export function problemOf(failure: Failure): Problem {
  return { code: failure.code, message: describe(failure), hint: hintIn(failure) };
}

function hintIn(failure: Failure): string | null {
  for (let at: Failure | undefined = failure; at !== undefined; at = failureIn(at.cause)) {
    if (at.hint !== undefined) return at.hint;
  }
  return null;
}
