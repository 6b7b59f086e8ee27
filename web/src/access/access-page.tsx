/** Who may come in and what each may do: users, tokens, sessions, the provider of identities. */
import { PageSection } from '@patternfly/react-core';
import { may } from '#/api/session.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ProviderCard } from './provider-card.tsx';
import { SessionsCard } from './sessions-card.tsx';
import { TokensCard } from './tokens-card.tsx';
import { UsersCard } from './users-card.tsx';

export function AccessPage() {
  const isManager = may('access.manage');
  return (
    <>
      <PageHead title="Access" />
      <PageSection hasBodyWrapper={false} isFilled className="stack">
        {isManager ? (
          <>
            <UsersCard />
            <TokensCard />
            <SessionsCard />
            <ProviderCard />
          </>
        ) : (
          <p>Your roles do not allow to manage users. What is your own is under your name, above.</p>
        )}
      </PageSection>
    </>
  );
}
