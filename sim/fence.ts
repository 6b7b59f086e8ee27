/**
 * The life of one incarnation of a simulated program.
 *
 * Invariant: after `kill`, no promise that went through `guard` settles any more, so that the old incarnation never
 * acts again, whatever it was waiting for.
 */

export class Fence {
  #alive = true;
  readonly #onKill: (() => void)[] = [];

  get alive(): boolean {
    return this.#alive;
  }

  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const act of this.#onKill.splice(0)) act();
  }

  /** What the kernel does for a program that ends: closes its sockets, forgets its descriptors. */
  onKill(act: () => void): void {
    if (this.#alive) this.#onKill.push(act);
    else act();
  }

  guard<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      promise.then(
        (value) => {
          if (this.#alive) resolve(value);
        },
        (error: unknown) => {
          if (this.#alive) reject(error as Error);
        },
      );
    });
  }
}
