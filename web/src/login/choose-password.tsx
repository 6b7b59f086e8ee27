/** Two fields of a new password, and what is wrong with it: as the manager has it, so that nothing wrong is sent. */
import { TextField } from '#/shared/text-field.tsx';

const PASSWORD_LENGTH = 12;

export function wrongPassword(password: string, name: string): string | undefined {
  if (password === '') return undefined;
  if (password.length < PASSWORD_LENGTH)
    return `It has ${password.length} of at least ${PASSWORD_LENGTH} characters.`;
  return password === name ? 'It must not be the name.' : undefined;
}

export function ChoosePassword(props: {
  name: string;
  password: string;
  again: string;
  onPassword: (value: string) => void;
  onAgain: (value: string) => void;
}) {
  const { again, name, onAgain, onPassword, password } = props;
  return (
    <>
      <TextField
        id="first-password"
        label="Password"
        type="password"
        autoComplete="new-password"
        help={`At least ${PASSWORD_LENGTH} characters; a few plain words do.`}
        value={password}
        wrong={wrongPassword(password, name)}
        onChange={onPassword}
      />
      <TextField
        id="first-again"
        label="Password again"
        type="password"
        autoComplete="new-password"
        value={again}
        wrong={again !== '' && again !== password ? 'It is not the same.' : undefined}
        onChange={onAgain}
      />
    </>
  );
}
