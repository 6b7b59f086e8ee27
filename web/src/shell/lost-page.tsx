/** An address that leads nowhere, or a page that failed to draw itself. */
import { EmptyState, EmptyStateBody, EmptyStateFooter, PageSection } from '@patternfly/react-core';
import { isRouteErrorResponse, Link, useRouteError } from 'react-router';
import { addresses } from '#/addresses.ts';

export function LostPage() {
  const error = useRouteError();
  const isBug = error !== undefined && !isRouteErrorResponse(error);
  return (
    <PageSection>
      <EmptyState titleText={isBug ? 'This page failed' : 'There is no such page'} headingLevel="h1">
        <EmptyStateBody>
          {isBug
            ? `It is a mistake in the page itself: ${error instanceof Error ? error.message : 'it does not say which'}`
            : 'The address may be mistyped, or of another version.'}
        </EmptyStateBody>
        <EmptyStateFooter>
          <Link to={addresses.overview}>To the overview</Link>
        </EmptyStateFooter>
      </EmptyState>
    </PageSection>
  );
}
