/** How a VM stands, as a coloured word; never by colour alone. */
import { Label, type LabelProps } from '@patternfly/react-core';
import type { Standing } from '#/api/types.ts';

export const STANDINGS: Record<
  Standing,
  { word: string; says: string; status?: LabelProps['status']; color?: LabelProps['color'] }
> = {
  violated: {
    word: 'RPO violated',
    says: 'The newest recovery point is older than the RPO.',
    status: 'danger',
  },
  unknown: { word: 'Unknown', says: 'Nothing was heard of it lately.', status: 'warning' },
  none: { word: 'No point yet', says: 'Protected, without a recovery point yet.', status: 'info' },
  met: { word: 'RPO met', says: 'The newest recovery point is younger than the RPO.', status: 'success' },
  refused: {
    word: 'Cannot be protected',
    says: 'Something about it speaks against protection.',
    color: 'grey',
  },
  unprotected: { word: 'Not protected', says: 'It could be protected.', color: 'grey' },
  kept: {
    word: 'Replica kept',
    says: 'No longer protected, or recovered; what is here is kept.',
    color: 'grey',
  },
};

export function StandingLabel({ standing }: { standing: Standing }) {
  const { word, says, status, color } = STANDINGS[standing];
  return (
    <Label
      isCompact
      variant="outline"
      title={says}
      {...(status === undefined ? { color: color ?? 'grey' } : { status })}
    >
      {word}
    </Label>
  );
}
