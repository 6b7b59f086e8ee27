/**
 * Operating errors: the failures the world can cause, each with a code from one closed table.
 *
 * What only a bug can cause is not here: that is an assertion, and it ends the process.
 */
import { inspect } from 'node:util';

/** When repeating the same operation can help. */
export type Retry = 'never' | 'later' | 'reconnect';

/** Every code, with what it means at each edge. Adding a code means filling in its row. */
const FAILURES = {
  usage_invalid: { http: 400, exit: 2, retry: 'never' },
  config_invalid: { http: 500, exit: 2, retry: 'never' },
  unauthenticated: { http: 401, exit: 5, retry: 'never' },
  forbidden: { http: 403, exit: 5, retry: 'never' },
  token_invalid: { http: 401, exit: 5, retry: 'never' },
  certificate_invalid: { http: 403, exit: 5, retry: 'never' },
  not_found: { http: 404, exit: 4, retry: 'never' },
  already_exists: { http: 409, exit: 4, retry: 'never' },
  conflict: { http: 409, exit: 4, retry: 'never' },
  epoch_stale: { http: 409, exit: 4, retry: 'never' },
  point_expired: { http: 410, exit: 4, retry: 'never' },
  vm_unsupported: { http: 422, exit: 4, retry: 'never' },
  limit_exceeded: { http: 429, exit: 4, retry: 'later' },
  cancelled: { http: 499, exit: 130, retry: 'never' },
  storage_full: { http: 507, exit: 3, retry: 'later' },
  storage_io: { http: 500, exit: 3, retry: 'later' },
  storage_corrupt: { http: 500, exit: 3, retry: 'never' },
  scratch_full: { http: 507, exit: 3, retry: 'later' },
  tracking_lost: { http: 409, exit: 3, retry: 'later' },
  replica_busy: { http: 409, exit: 3, retry: 'later' },
  unreachable: { http: 503, exit: 3, retry: 'reconnect' },
  timeout: { http: 504, exit: 3, retry: 'reconnect' },
  protocol_corrupt: { http: 502, exit: 3, retry: 'reconnect' },
  protocol_unsupported: { http: 502, exit: 3, retry: 'never' },
  libvirt_error: { http: 502, exit: 3, retry: 'later' },
  nbd_error: { http: 502, exit: 3, retry: 'later' },
  tool_failed: { http: 500, exit: 3, retry: 'later' },
} as const satisfies Record<string, { http: number; exit: number; retry: Retry }>;

export type FailureCode = keyof typeof FAILURES;

export function isFailureCode(value: unknown): value is FailureCode {
  return typeof value === 'string' && Object.hasOwn(FAILURES, value);
}

export class Failure extends Error {
  override readonly name = 'Failure';
  readonly code: FailureCode;
  /** What the operator can do about it, as a full sentence. */
  readonly hint: string | undefined;

  /** `message` says what was being done, with names and numbers; the reason goes in `cause`, never in the text. */
  constructor(code: FailureCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }

  get httpStatus(): number {
    return FAILURES[this.code].http;
  }

  get exitCode(): number {
    return FAILURES[this.code].exit;
  }

  get retry(): Retry {
    return FAILURES[this.code].retry;
  }
}

/** The whole chain on one line: "copy extent 7 of vda: connect to host-b:7420: ECONNREFUSED". */
export function describe(error: unknown): string {
  const parts: string[] = [];
  for (let e: unknown = error; e !== undefined && parts.length < 16; e = causeOf(e)) {
    if (!(e instanceof SuppressedError)) parts.push(e instanceof Error ? e.message : inspect(e));
  }
  return parts.join(': ');
}

/** The outermost Failure in a chain of causes, if there is one. */
export function failureIn(error: unknown): Failure | undefined {
  for (let e: unknown = error, depth = 0; e !== undefined && depth < 16; depth++) {
    if (e instanceof Failure) return e;
    e = causeOf(e);
  }
  return undefined;
}

/**
 * When disposing of a resource fails after an error, `using` throws both as one SuppressedError, whose `error` is the
 * later one. Where that is what only a bug can cause, it counts; otherwise the first is the reason.
 */
function causeOf(error: unknown): unknown {
  if (error instanceof SuppressedError) {
    const later: unknown = error.error;
    return failureIn(later) === undefined ? later : (error.suppressed as unknown);
  }
  return error instanceof Error ? error.cause : undefined;
}

/** True when `error` is, or wraps, a Failure with this code. */
export function hasCode(error: unknown, code: FailureCode): boolean {
  return failureIn(error)?.code === code;
}
