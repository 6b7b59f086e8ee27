/**
 * For tests: a provider of identities as a process of its own (oidc-provider), that lets everybody in under any name.
 * Its arguments are one JSON: where the certificate is, where people are sent back to, and which groups who is in.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { RequestListener } from 'node:http';

type Arguments = {
  keyFile: string;
  certificateFile: string;
  redirectUri: string;
  groups: Record<string, string[]>;
};
type ProviderClass = new (issuer: string, configuration: object) => { callback(): RequestListener };

const { keyFile, certificateFile, redirectUri, groups } = JSON.parse(process.argv[2]!) as Arguments;
// The package has no types of its own.
const name = 'oidc-provider';
const { default: Provider } = (await import(name)) as { default: ProviderClass };

const server = createServer({ key: readFileSync(keyFile), cert: readFileSync(certificateFile) });
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `https://localhost:${(server.address() as AddressInfo).port}`;
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: 'antipode',
      client_secret: 'a secret of the test only',
      redirect_uris: [redirectUri],
      post_logout_redirect_uris: [`${new URL(redirectUri).origin}/`],
      grant_types: ['authorization_code'],
      response_types: ['code'],
    },
  ],
  conformIdTokenClaims: false,
  claims: { openid: ['sub', 'preferred_username', 'groups'] },
  findAccount: (_context: unknown, id: string) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, groups: groups[id] ?? [] }),
  }),
  cookies: { keys: ['of the test only'] },
  pkce: { required: () => true },
});
server.on('request', provider.callback());
process.stdout.write(`${issuer}\n`);
