/** How a guest names its interfaces, as far as its own files tell before it runs. Pure. */
import type { OfflineNic } from './decide-edit.ts';
import type { GuestFacts } from './guest-facts.ts';
import { refused } from './guest-tree.ts';
import { isInterfaceName } from './ifupdown-text.ts';

/** By the rule that goes by its MAC address; or the only name of the only interface. */
export function nameOf(
  { mac, macBefore, place }: OfflineNic,
  about: { known: readonly string[]; facts: GuestFacts; nicCount: number },
): string {
  const { known, facts, nicCount } = about;
  for (const text of facts.names.values()) {
    const name = namedBy(text, [mac, macBefore]);
    if (name !== undefined) return name;
  }
  const [only, ...others] = known;
  if (nicCount === 1 && only !== undefined && others.length === 0 && isInterfaceName(only)) return only;
  throw refused(
    `ifupdown: no file of the guest says what its interface ${place} (${macBefore}) is called`,
    `It configures ${known.join(', ').slice(0, 200)}. Give it a .link file in /etc/systemd/network by its MAC address.`,
  );
}

/** Rules that name interfaces by the MAC address of the protected site go by the one here. */
export function renamedRules(
  names: ReadonlyMap<string, string>,
  nics: readonly OfflineNic[],
): { path: string; content: string; mode: number }[] {
  return [...names].flatMap(([path, text]) => {
    let content = text;
    for (const { mac, macBefore } of nics) {
      if (mac !== macBefore) content = content.replaceAll(new RegExp(macBefore, 'gi'), mac);
    }
    return content === text ? [] : [{ path, content, mode: 0o644 }];
  });
}

/** udev's rules have one a line; systemd's files are about one interface each. */
function namedBy(text: string, macs: readonly string[]): string | undefined {
  const isAbout = (part: string): boolean => macs.some((mac) => part.toLowerCase().includes(mac));
  const inRule = text
    .split('\n')
    .filter((line) => !line.trimStart().startsWith('#') && isAbout(line))
    .map((line) => /\bNAME="([^"]+)"/.exec(line)?.[1]);
  const inLink = isAbout(text) ? /^\s*Name\s*=\s*(\S+)\s*$/m.exec(text)?.[1] : undefined;
  return [...inRule, inLink].find((name) => name !== undefined && isInterfaceName(name));
}
