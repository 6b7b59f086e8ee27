/** A button that says why it cannot be used, to the eye and to a screen reader, instead of only being grey. */
import { Button, Tooltip, type ButtonProps } from '@patternfly/react-core';
import type { WhyNot } from './what-may-be-done.ts';

export function ActionButton(props: {
  name: string;
  whyNot?: WhyNot;
  onClick: () => void;
  variant?: ButtonProps['variant'];
  isBusy?: boolean;
}) {
  const { isBusy = false, name, onClick, variant = 'secondary', whyNot } = props;
  const button = (
    <Button
      variant={variant}
      isAriaDisabled={whyNot !== undefined || isBusy}
      isLoading={isBusy}
      onClick={whyNot === undefined ? onClick : undefined}
    >
      {name}
    </Button>
  );
  return whyNot === undefined ? button : <Tooltip content={whyNot}>{button}</Tooltip>;
}
