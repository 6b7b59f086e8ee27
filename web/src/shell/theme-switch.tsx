/** Light, dark, or what the system prefers. */
import { ToggleGroup, ToggleGroupItem } from '@patternfly/react-core';
import { MoonIcon } from '@patternfly/react-icons/dist/esm/icons/moon-icon';
import { SunIcon } from '@patternfly/react-icons/dist/esm/icons/sun-icon';
import { chooseTheme, useTheme } from './theme.ts';

export function ThemeSwitch() {
  const theme = useTheme();
  return (
    <ToggleGroup isCompact aria-label="Colours">
      <ToggleGroupItem
        icon={<SunIcon />}
        aria-label="Light"
        isSelected={theme === 'light'}
        onChange={() => chooseTheme(theme === 'light' ? 'system' : 'light')}
      />
      <ToggleGroupItem
        icon={<MoonIcon />}
        aria-label="Dark"
        isSelected={theme === 'dark'}
        onChange={() => chooseTheme(theme === 'dark' ? 'system' : 'dark')}
      />
    </ToggleGroup>
  );
}
