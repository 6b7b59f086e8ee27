/** The stanzas of ifupdown's files (interfaces(5)), as far as taking some of them out needs. Pure. */

const NAME = /^[A-Za-z0-9_.-]{1,15}$/;

/** Interfaces but the loopback that stanzas define, in order. */
export function namesIn(texts: Iterable<string>): string[] {
  const names = new Set<string>();
  for (const text of texts) {
    for (const line of text.split('\n')) {
      const [word, name = ''] = line.trim().split(/\s+/);
      if (word === 'iface' && name !== 'lo') names.add(name);
    }
  }
  return [...names];
}

/** Without the stanzas of these interfaces in these families, and without bringing them up. */
export function withoutStanzas(
  text: string,
  names: ReadonlySet<string>,
  families: ReadonlySet<string>,
): string {
  let isSkipped = false;
  const lines = text.split('\n').flatMap((line) => {
    const [word = '', ...rest] = line.trim().split(/\s+/);
    if (word === 'iface') isSkipped = names.has(rest[0] ?? '') && families.has(rest[1] ?? '');
    if (word === 'auto' || word.startsWith('allow-')) {
      isSkipped = false;
      const others = rest.filter((name) => !names.has(name));
      if (others.length === rest.length) return [line];
      return others.length === 0 ? [] : [[word, ...others].join(' ')];
    }
    if (word === 'mapping' || word === 'rename' || word.startsWith('source')) isSkipped = false;
    return isSkipped ? [] : [line];
  });
  return lines.join('\n');
}

export function isInterfaceName(name: string): boolean {
  return NAME.test(name);
}
