/** The bar on top: the product, the site whose manager this is, the sites it is paired with, theme, session. */
import {
  Label,
  Masthead,
  MastheadBrand,
  MastheadContent,
  MastheadLogo,
  MastheadMain,
  MastheadToggle,
  PageToggleButton,
  Toolbar,
  ToolbarContent,
  ToolbarGroup,
  ToolbarItem,
} from '@patternfly/react-core';
import { Link } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { LiveState } from '#/api/live.ts';
import { useCall } from '#/api/use-call.ts';
import logo from '#/antipode.svg';
import { SessionMenu } from './session-menu.tsx';
import { ThemeSwitch } from './theme-switch.tsx';

export function SiteMasthead({ live }: { live: LiveState }) {
  const { data } = useCall('GET /api/v1/sites', ['site']);
  const self = data?.items.find((site) => site.is_self);
  return (
    <Masthead>
      <MastheadMain>
        <MastheadToggle>
          <PageToggleButton variant="plain" aria-label="Navigation" isHamburgerButton />
        </MastheadToggle>
        <MastheadBrand>
          <MastheadLogo component={(props) => <Link {...props} to={addresses.overview} />}>
            <img src={logo} alt="" width={28} height={28} />
            <span className="brand-name">Antipode</span>
          </MastheadLogo>
        </MastheadBrand>
      </MastheadMain>
      <MastheadContent>
        <Toolbar isFullHeight>
          <ToolbarContent>
            <ToolbarItem alignSelf="center">
              {self !== undefined && <Label color="blue">Site {self.name}</Label>}
            </ToolbarItem>
            <ToolbarGroup align={{ default: 'alignEnd' }} gap={{ default: 'gapSm' }}>
              <ToolbarItem alignSelf="center">
                <LiveMark live={live} />
              </ToolbarItem>
              <ToolbarItem alignSelf="center">
                <ThemeSwitch />
              </ToolbarItem>
              <ToolbarItem alignSelf="center">
                <SessionMenu />
              </ToolbarItem>
            </ToolbarGroup>
          </ToolbarContent>
        </Toolbar>
      </MastheadContent>
    </Masthead>
  );
}

function LiveMark({ live }: { live: LiveState }) {
  const words = { connecting: 'Connecting', live: 'Live', away: 'Not live' }[live];
  return (
    <span className={`live-mark live-mark-${live}`} role="status">
      <span className="live-dot" aria-hidden="true" />
      {words}
    </span>
  );
}
