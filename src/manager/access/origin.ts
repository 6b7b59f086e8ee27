/**
 * Whether a request with a session's cookie comes from the manager's own page, and was not made by another site's page
 * in the browser of somebody who has signed in (CSRF).
 *
 * `SameSite=Strict` keeps the cookie from other sites, but a page on another port of the same host is of the same
 * site. So a request that changes something has to name this very origin, or, where a client sends none, carry a header
 * that no form and no page of another origin can send without being asked first.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { Failure } from '#/lib/failure.ts';

export const REQUEST_HEADER = 'antipode-request';

/** Throws forbidden. */
export function checkOrigin(method: string, headers: IncomingHttpHeaders): void {
  const site = headers['sec-fetch-site'];
  const { origin, host } = headers;
  // A link from elsewhere that is opened by a person is `cross-site` as well, and only navigates.
  const isNavigation = headers['sec-fetch-mode'] === 'navigate' && method === 'GET';
  if (site !== undefined && site !== 'same-origin' && site !== 'none' && !isNavigation) {
    throw refused(`a page that is ${String(site)}`);
  }
  // Any page may open a WebSocket with the cookie, and read what comes: browsers ask nobody first.
  const isReading = (method === 'GET' || method === 'HEAD') && headers.upgrade === undefined;
  if (isReading) return;
  if (origin === undefined) {
    if (headers[REQUEST_HEADER] === undefined) throw refused('an unknown page');
    return;
  }
  if (URL.parse(origin)?.protocol !== 'https:' || URL.parse(origin)?.host !== hostOf(host)) {
    throw refused(origin.slice(0, 255));
  }
}

/** As URLs write it, without the port that https has by itself. */
function hostOf(host: string | undefined): string | undefined {
  return URL.parse(`https://${host ?? ''}`)?.host;
}

function refused(where: string): Failure {
  return new Failure('forbidden', `the request was made by ${where}, not by this manager's own page`, {
    hint: `Programs use a bearer token; with a session's cookie, send the header ${REQUEST_HEADER}: 1.`,
  });
}
