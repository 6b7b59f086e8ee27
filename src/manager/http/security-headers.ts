/**
 * What browsers are told with every answer: the page runs only scripts that the manager serves as files, is shown in no
 * frame, and tells no other site where it came from.
 */

/** Styles that a script sets on an element are not restrained by this; styles and scripts in the page's text are. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "font-src 'self'",
  "connect-src 'self'",
  "manifest-src 'self'",
  "worker-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join('; ');

const HEADERS = {
  'content-security-policy': POLICY,
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
};

/** What the API answers is kept by nobody on the way; files of the page say themselves how long they are good for. */
export function securityHeaders(url: string): Record<string, string> {
  return /^\/(api|control|peer)\//.test(url) ? { ...HEADERS, 'cache-control': 'no-store' } : HEADERS;
}

/** For a document that carries its own styles and pictures, and no script: it may do nothing else, nor be an origin. */
export const DOCUMENT_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; " +
  "frame-ancestors 'none'; sandbox allow-popups allow-downloads";

/** For the page of the API, whose links lead to the API. */
export const API_PAGE_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
