/** Where one can go. */
import { Nav, NavItem, NavList } from '@patternfly/react-core';
import { Link, useLocation } from 'react-router';
import { addresses } from '#/addresses.ts';

const PLACES: readonly (readonly [name: string, address: string])[] = [
  ['Overview', addresses.overview],
  ['Virtual machines', addresses.vms],
  ['Recovery plans', addresses.plans],
  ['Reports', addresses.reports],
  ['Sites and hosts', addresses.sites],
  ['Alarms', addresses.alarms],
  ['Events', addresses.events],
  ['Audit', addresses.audit],
  ['Access', addresses.access],
  ['Settings', addresses.settings],
];

export function Navigation() {
  const { pathname } = useLocation();
  return (
    <Nav aria-label="Pages">
      <NavList>
        {PLACES.map(([name, address]) => (
          <NavItem key={address} isActive={isUnder(pathname, address)}>
            <Link to={address}>{name}</Link>
          </NavItem>
        ))}
      </NavList>
    </Nav>
  );
}

function isUnder(path: string, address: string): boolean {
  return address === addresses.overview
    ? path === address
    : path === address || path.startsWith(`${address}/`);
}
