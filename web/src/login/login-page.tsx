/** The way in. At a new site the first administrator is made here, with the token of the link. */
import { Alert, Button, Card, CardBody, CardTitle } from '@patternfly/react-core';
import { useQuery } from '@tanstack/react-query';
import { call } from '#/api/call.ts';
import logo from '#/antipode.svg';
import { FirstForm } from './first-form.tsx';
import { ResetForm } from './reset-form.tsx';
import { SignInForm } from './sign-in-form.tsx';

const FIRST = '/first';
const RESET = '/reset';

/** Why signing in by the provider of identities came to nothing, by the code that the manager sends back with. */
const FAILED: Record<string, string> = {
  unauthenticated:
    'Signing in took too long, was begun in another browser, or was not confirmed by the provider. Try it again.',
  forbidden:
    'The provider knows you, and none of your groups has a role here. Ask an administrator of this site for one.',
  unreachable:
    'The provider does not answer. Sign in with a name and a password: a break-glass user is there for this.',
  limit_exceeded: 'Too many people sign in at the same time, or too often. Wait a minute, and try it again.',
  not_found: 'This site has no provider of identities. Sign in with a name and a password.',
};

export function LoginPage() {
  const { data, error } = useQuery({
    queryKey: ['GET /api/v1/sign-in'],
    queryFn: ({ signal }) => call('GET /api/v1/sign-in', { signal }),
  });
  const failed = new URLSearchParams(window.location.search).get('sign-in');
  const isFirst = window.location.pathname === FIRST && data?.needs_first_administrator === true;
  const isReset = window.location.pathname === RESET;
  return (
    <main className="login">
      <Card className="login-card">
        <CardTitle component="h1">
          <span className="login-title">
            <img src={logo} alt="" width={36} height={36} />
            <span className="brand-name">Antipode{data === undefined ? '' : ` at ${data.site_name}`}</span>
          </span>
        </CardTitle>
        <CardBody>
          {failed !== null && (
            <Alert
              variant="danger"
              isInline
              title={FAILED[failed] ?? 'Signing in came to nothing. Try it again.'}
            />
          )}
          {error !== null && <Alert variant="danger" isInline title={error.message} />}
          {data !== undefined &&
            (isFirst ? (
              <FirstForm />
            ) : isReset ? (
              <ResetForm />
            ) : (
              <SignInForm isNew={data.needs_first_administrator} />
            ))}
          {data !== undefined && data.single_sign_on !== null && !isReset && (
            <Button component="a" variant="secondary" isBlock href={data.single_sign_on.path}>
              Sign in by {data.single_sign_on.label}
            </Button>
          )}
        </CardBody>
      </Card>
    </main>
  );
}
