/** The order in which the VMs of a plan come up, as the form has it: found to be none before anything is sent. */

export type Order = readonly { readonly name: string; readonly dependsOn: readonly string[] }[];

/** The first VMs found that wait for each other, in order, the first one again at the end; undefined for none. */
export function cycleIn(vms: Order): readonly string[] | undefined {
  const needed = new Map(vms.map(({ dependsOn, name }) => [name, dependsOn]));
  const done = new Set<string>();
  for (const { name } of vms) {
    // Without recursion: a chain may be as long as a plan.
    const path: { name: string; next: number }[] = done.has(name) ? [] : [{ name, next: 0 }];
    while (path.length > 0) {
      const top = path.at(-1)!;
      const wanted = needed.get(top.name)?.[top.next++];
      if (wanted === undefined) {
        done.add(top.name);
        path.pop();
        continue;
      }
      const at = path.findIndex((one) => one.name === wanted);
      if (at >= 0) return [...path.slice(at).map((one) => one.name), wanted];
      if (!done.has(wanted)) path.push({ name: wanted, next: 0 });
    }
  }
  return undefined;
}
