/** How bad it is, by shape, colour and name. */
import { ExclamationCircleIcon } from '@patternfly/react-icons/dist/esm/icons/exclamation-circle-icon';
import { ExclamationTriangleIcon } from '@patternfly/react-icons/dist/esm/icons/exclamation-triangle-icon';
import { InfoCircleIcon } from '@patternfly/react-icons/dist/esm/icons/info-circle-icon';

export const SEVERITY_ICONS = {
  error: <ExclamationCircleIcon className="icon-error" aria-label="Error" />,
  warning: <ExclamationTriangleIcon className="icon-warning" aria-label="Warning" />,
  info: <InfoCircleIcon className="icon-info" aria-label="Note" />,
};
