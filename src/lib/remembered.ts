/** A function of a text that is asked the same again and again, such as every second about a VM at rest. */

const ANSWERS_MAX = 64;
const TEXT_LENGTH_MAX = 65_536;

/**
 * `compute`, with its last answers kept, at most ANSWERS_MAX and none to a text longer than TEXT_LENGTH_MAX. Who asks
 * must not change an answer. What it throws is not kept.
 */
export function remembered<T>(compute: (text: string) => T): (text: string) => T {
  const answers = new Map<string, { answer: T }>();
  return (text) => {
    const known = answers.get(text);
    if (known !== undefined) {
      // Behind all others, so that those go first that were asked for longest ago.
      answers.delete(text);
      answers.set(text, known);
      return known.answer;
    }
    const answer = compute(text);
    if (text.length > TEXT_LENGTH_MAX) return answer;
    for (const oldest of answers.keys()) {
      if (answers.size < ANSWERS_MAX) break;
      answers.delete(oldest);
    }
    answers.set(text, { answer });
    return answer;
  };
}
