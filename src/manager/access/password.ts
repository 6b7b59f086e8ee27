/**
 * Passwords as they are kept: argon2id, with the parameters beside the digest, so that they can be raised later.
 *
 * Invariant: judging a password takes the same work whether its user exists or not, and only so many are judged at
 * the same time, since each takes 19 MiB and a tenth of a second of a processor.
 */
import { argon2, randomBytes, timingSafeEqual, type Argon2Parameters } from 'node:crypto';
import { promisify } from 'node:util';
import { Failure } from '#/lib/failure.ts';

const derive = promisify(argon2);

/** OWASP's recommendation for argon2id: 19 MiB, two passes, one lane. */
const COST = { memory: 19_456, passes: 2, parallelism: 1 };
const DIGEST_BYTES = 32;
const SALT_BYTES = 16;
const CHARACTERS_MIN = 12;
const AT_ONCE_MAX = 2;
const WAITING_MAX = 20;

/** What the password of a user that does not exist is compared with: the digest of nothing that can be typed. */
const NOBODY = encode(COST, Buffer.alloc(SALT_BYTES), Buffer.alloc(DIGEST_BYTES));

export class Passwords {
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  /** Throws limit_exceeded when too many wait. */
  async hash(password: string): Promise<string> {
    const salt = randomBytes(SALT_BYTES);
    return encode(COST, salt, await this.#digest(password, salt, COST));
  }

  /** `kept` undefined: there is no such user, or one without a password. Throws limit_exceeded. */
  async isRight(password: string, kept: string | undefined): Promise<boolean> {
    const { cost, salt, digest } = decode(kept ?? NOBODY);
    const own = await this.#digest(password, salt, cost);
    return timingSafeEqual(own, digest) && kept !== undefined;
  }

  async #digest(password: string, salt: Buffer, cost: typeof COST): Promise<Buffer> {
    await this.#turn();
    try {
      const parameters: Argon2Parameters = {
        // What is typed on another keyboard may be composed otherwise.
        message: password.normalize('NFKC'),
        nonce: salt,
        tagLength: DIGEST_BYTES,
        ...cost,
      };
      return await derive('argon2id', parameters);
    } finally {
      this.#running--;
      this.#waiting.shift()?.();
    }
  }

  async #turn(): Promise<void> {
    if (this.#running >= AT_ONCE_MAX) {
      if (this.#waiting.length >= WAITING_MAX) {
        throw new Failure('limit_exceeded', 'too many people sign in at the same time', {
          hint: 'Try again in a few seconds.',
        });
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#running++;
  }
}

/** Length is what counts; a password that is the name or one character repeated is none. Throws usage_invalid. */
export function checkNewPassword(password: string, name: string): void {
  const characters = Array.from(password);
  const hint = 'A few words that nobody would guess are easy to remember.';
  if (characters.length < CHARACTERS_MIN) {
    throw new Failure('usage_invalid', `the password has fewer than ${CHARACTERS_MIN} characters`, { hint });
  }
  const isName = password.toLowerCase().replaceAll(name.toLowerCase(), '').length < CHARACTERS_MIN / 2;
  if (isName || new Set(characters).size < 4) {
    throw new Failure('usage_invalid', 'the password is easily guessed', { hint });
  }
}

function encode(cost: typeof COST, salt: Buffer, digest: Buffer): string {
  const parameters = `m=${cost.memory},t=${cost.passes},p=${cost.parallelism}`;
  return `argon2id$${parameters}$${salt.toString('base64url')}$${digest.toString('base64url')}`;
}

function decode(kept: string): { cost: typeof COST; salt: Buffer; digest: Buffer } {
  const parts = /^argon2id\$m=(\d{1,8}),t=(\d{1,3}),p=(\d{1,3})\$([\w-]+)\$([\w-]+)$/.exec(kept);
  if (parts === null) throw new Failure('storage_corrupt', 'a password is kept in a form that is not known');
  const [memory, passes, parallelism] = parts.slice(1, 4).map(Number);
  return {
    cost: { memory: memory!, passes: passes!, parallelism: parallelism! },
    salt: Buffer.from(parts[4]!, 'base64url'),
    digest: Buffer.from(parts[5]!, 'base64url'),
  };
}
