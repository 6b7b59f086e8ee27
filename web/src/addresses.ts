/** Every address of the page, in one place: what is linked to is spelled here and nowhere else. */

const part = encodeURIComponent;

export const addresses = {
  overview: '/',
  vms: '/vms',
  vmsStanding: (standing: string) => `/vms?standing=${part(standing)}`,
  vm: (uuid: string) => `/vms/${part(uuid)}`,
  protect: (names: readonly string[]) =>
    names.length === 0 ? '/protect' : `/protect?${names.map((name) => `vm=${part(name)}`).join('&')}`,
  plans: '/plans',
  plan: (name: string) => `/plans/${part(name)}`,
  planFile: '/plan-file',
  planFileOf: (name: string) => `/plan-file?plan=${part(name)}`,
  planForm: (name: string) => `/plan-form?plan=${part(name)}`,
  run: (id: string) => `/runs/${part(id)}`,
  recovery: (id: string) => `/recoveries/${part(id)}`,
  console: (recoveryId: string) => `/recoveries/${part(recoveryId)}/console`,
  reports: '/reports',
  sites: '/sites',
  events: '/events',
  alarms: '/alarms',
  audit: '/audit',
  access: '/access',
  account: '/account',
  settings: '/settings',
} as const;

/** Where something that an event or a need is about is shown; undefined for what has no page. */
export function addressOf(kind: string, id: string): string | undefined {
  switch (kind) {
    case 'vm':
      return addresses.vm(id);
    case 'run':
      return addresses.run(id);
    case 'recovery':
      return addresses.recovery(id);
    case 'plan':
      return addresses.plan(id);
    case 'host':
    case 'member':
    case 'replication-server':
      return addresses.sites;
    case 'site':
      return addresses.sites;
    case 'report':
      return addresses.reports;
    default:
      return undefined;
  }
}
