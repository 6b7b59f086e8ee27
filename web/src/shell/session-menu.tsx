/** Who is signed in, and the way out. */
import { Dropdown, DropdownItem, DropdownList, MenuToggle } from '@patternfly/react-core';
import { UserIcon } from '@patternfly/react-icons/dist/esm/icons/user-icon';
import { useState } from 'react';
import { useNavigate } from 'react-router';
import { addresses } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import { me, signedOut } from '#/api/session.ts';

export function SessionMenu() {
  const [isOpen, setOpen] = useState(false);
  const navigate = useNavigate();
  const leave = () => {
    // Whatever the manager says, this page forgets.
    call('POST /api/v1/logout', {}).then(({ provider_url: url }) => {
      // The session at the provider ends there, if it can: otherwise the next click would let anybody in again.
      if (url !== null) window.location.assign(url);
      else signedOut();
    }, signedOut);
  };
  return (
    <Dropdown
      isOpen={isOpen}
      onOpenChange={setOpen}
      onSelect={() => setOpen(false)}
      popperProps={{ position: 'end' }}
      toggle={(ref) => (
        <MenuToggle
          ref={ref}
          icon={<UserIcon />}
          isExpanded={isOpen}
          onClick={() => setOpen(!isOpen)}
          variant="plainText"
        >
          {me()?.name}
        </MenuToggle>
      )}
    >
      <DropdownList>
        <DropdownItem key="roles" isDisabled description={rolesText()}>
          Signed in
        </DropdownItem>
        <DropdownItem key="account" onClick={() => void navigate(addresses.account)}>
          My account
        </DropdownItem>
        <DropdownItem key="out" onClick={leave}>
          Sign out
        </DropdownItem>
      </DropdownList>
    </Dropdown>
  );
}

function rolesText(): string {
  const roles = (me()?.grants ?? []).map(({ role, group_id: group }) =>
    group === null ? role : `${role} on group ${group}`,
  );
  return roles.length === 0 ? 'without a role' : `as ${roles.join(', ')}`;
}
