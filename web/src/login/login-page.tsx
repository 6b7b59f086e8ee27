/** The way in. At a new site the first administrator is made here, with the token of the link. */
import { Alert, Button, Card, CardBody, CardTitle } from '@patternfly/react-core';
import { useQuery } from '@tanstack/react-query';
import { call } from '#/api/call.ts';
import logo from '#/antipode.svg';
import { FirstForm } from './first-form.tsx';
import { SignInForm } from './sign-in-form.tsx';

const FIRST = '/first';

export function LoginPage() {
  const { data, error } = useQuery({
    queryKey: ['GET /api/v1/sign-in'],
    queryFn: ({ signal }) => call('GET /api/v1/sign-in', { signal }),
  });
  const isFirst = window.location.pathname === FIRST && data?.needs_first_administrator === true;
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
          {error !== null && <Alert variant="danger" isInline title={error.message} />}
          {data !== undefined &&
            (isFirst ? <FirstForm /> : <SignInForm isNew={data.needs_first_administrator} />)}
          {data !== undefined && data.single_sign_on !== null && (
            <Button component="a" variant="secondary" isBlock href={data.single_sign_on.path}>
              Sign in by {data.single_sign_on.label}
            </Button>
          )}
        </CardBody>
      </Card>
    </main>
  );
}
