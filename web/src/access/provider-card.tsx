/** The provider of identities as the manager's configuration has it, and whether it answers now. */
import {
  Card,
  CardBody,
  CardTitle,
  DescriptionList,
  DescriptionListDescription,
  DescriptionListGroup,
  DescriptionListTerm,
  Label,
} from '@patternfly/react-core';
import { useCall } from '#/api/use-call.ts';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';

export function ProviderCard() {
  const { data, error } = useCall('GET /api/v1/identity-provider', []);
  const provider = data?.provider;
  return (
    <Card>
      <CardTitle component="h2">Provider of identities (OpenID Connect)</CardTitle>
      <CardBody>
        <ProblemAlert error={error} />
        {provider === null && (
          <p className="subtle">
            None: people sign in with a password here. It is set with openid_connect in the manager&apos;s
            configuration.
          </p>
        )}
        {provider !== null && provider !== undefined && (
          <>
            <DescriptionList isHorizontal isCompact>
              {(
                [
                  ['Provider', provider.issuer],
                  [
                    'State',
                    <Label
                      key="state"
                      isCompact
                      variant="outline"
                      status={provider.is_reachable ? 'success' : 'danger'}
                    >
                      {provider.is_reachable ? 'answers' : (provider.failure?.message ?? 'does not answer')}
                    </Label>,
                  ],
                  ['Client', provider.client_id],
                  ['Way back', provider.redirect_uri],
                  ['Asks for', provider.scope],
                  ['Name by', provider.name_claim],
                  ['Groups by', provider.groups_claim],
                  [
                    'Signing out',
                    provider.can_end_sessions ? 'ends the session there, too' : 'ends the session here only',
                  ],
                ] as const
              ).map(([term, text]) => (
                <DescriptionListGroup key={term}>
                  <DescriptionListTerm>{term}</DescriptionListTerm>
                  <DescriptionListDescription>{text}</DescriptionListDescription>
                </DescriptionListGroup>
              ))}
            </DescriptionList>
            <PlainTable
              label="Groups of the provider and their roles"
              columns={['Group there', 'Roles here']}
              rows={provider.roles.map(({ group, roles }) => [group, roles.join(', ')])}
            />
          </>
        )}
      </CardBody>
    </Card>
  );
}
