/**
 * The cookie of a session. `__Host-` (RFC 6265bis): sent over HTTPS only, to the host that set it only. Cookies know
 * no ports, so that of each site has another name: two sites on one machine would sign each other's people out.
 */
const LENGTH_MAX = 8192;

export function cookieName(siteId: string): string {
  return `__Host-antipode-${siteId}`;
}

/** The session's secret in a Cookie header, or undefined. */
export function sessionSecretIn(header: string | undefined, siteId: string): string | undefined {
  if (header === undefined || header.length > LENGTH_MAX) return undefined;
  const prefix = `${cookieName(siteId)}=`;
  const found = header
    .split(';')
    .map((part) => part.trim())
    .filter((part) => part.startsWith(prefix));
  // Two of them are somebody's attempt to put another beside the right one.
  return found.length === 1 ? found[0]!.slice(prefix.length) : undefined;
}

/** Without an age: it ends with the browser at the latest. The lifetimes that count are kept by the manager. */
export function setCookie(siteId: string, secret: string): string {
  return `${cookieName(siteId)}=${secret}; Path=/; Secure; HttpOnly; SameSite=Strict`;
}

export function clearCookie(siteId: string): string {
  return `${cookieName(siteId)}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict`;
}
