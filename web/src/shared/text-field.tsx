/** A field of a form that says beside itself what is wrong with what was typed. */
import { FormGroup, FormHelperText, HelperText, HelperTextItem, TextInput } from '@patternfly/react-core';

export function TextField(props: {
  id: string;
  label: string;
  value: string;
  onChange: (value: string) => void;
  wrong?: string | undefined;
  help?: string | undefined;
  type?: 'text' | 'password' | 'number' | 'datetime-local';
  autoComplete?: string;
  isRequired?: boolean;
  placeholder?: string;
}) {
  const {
    autoComplete,
    help,
    id,
    isRequired,
    label,
    onChange,
    placeholder,
    type = 'text',
    value,
    wrong,
  } = props;
  const text = wrong ?? help;
  return (
    <FormGroup label={label} fieldId={id} isRequired={isRequired ?? false}>
      <TextInput
        id={id}
        type={type}
        value={value}
        validated={wrong === undefined ? 'default' : 'error'}
        onChange={(_event, next) => onChange(next)}
        {...(autoComplete === undefined ? {} : { autoComplete })}
        {...(placeholder === undefined ? {} : { placeholder })}
        {...(text === undefined ? {} : { 'aria-describedby': `${id}-help` })}
      />
      {text !== undefined && (
        <FormHelperText>
          <HelperText id={`${id}-help`}>
            <HelperTextItem variant={wrong === undefined ? 'default' : 'error'}>{text}</HelperTextItem>
          </HelperText>
        </FormHelperText>
      )}
    </FormGroup>
  );
}
