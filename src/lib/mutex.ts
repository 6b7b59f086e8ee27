/** One at a time, in the order of asking. Pure. */

export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `work` once everything asked for before has settled. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    // The next one waits for the end of this one, however it ends; who asked gets the error.
    this.#last = result.catch(() => {});
    return result;
  }
}
