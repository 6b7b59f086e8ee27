/** For tests: a client of a site over HTTPS that keeps cookies and sends what browsers send. */
import { request as httpsRequest } from 'node:https';
import type { IncomingHttpHeaders } from 'node:http';
import type { TestSite } from '#/manager/site-fixture.ts';

export const PASSWORD = 'four plain words here';

export type Got = {
  status: number;
  code: string | undefined;
  message: string;
  body: Record<string, unknown>;
  headers: IncomingHttpHeaders;
};

export class TestBrowser {
  readonly #site: TestSite;
  cookie: string | undefined;

  constructor(site: TestSite) {
    this.#site = site;
  }

  get origin(): string {
    return `https://127.0.0.1:${this.#site.address.port}`;
  }

  /** `headers` undefined ones are left out: `{ origin: undefined }` sends none. */
  async ask(
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    more: { body?: unknown; headers?: Record<string, string | undefined>; cookie?: string | undefined } = {},
  ): Promise<Got> {
    const sent = more.body === undefined ? undefined : Buffer.from(JSON.stringify(more.body));
    const cookie = 'cookie' in more ? more.cookie : this.cookie;
    const headers = {
      ...(method === 'GET' ? {} : { origin: this.origin, 'sec-fetch-site': 'same-origin' }),
      ...(sent === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(sent.length) }),
      ...(cookie === undefined ? {} : { cookie }),
      ...more.headers,
    };
    const given = Object.entries(headers).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    );
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        {
          ...this.#site.address,
          method,
          path: `/api/v1${path}`,
          rejectUnauthorized: false,
          agent: false,
          headers: Object.fromEntries(given),
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString();
            const body = (text.startsWith('{') ? JSON.parse(text) : {}) as Record<string, unknown>;
            const { code, message } = body as { code?: string; message?: string };
            this.#keep(response.headers['set-cookie']);
            const status = response.statusCode ?? 0;
            resolve({ status, code, message: message ?? '', body, headers: response.headers });
          });
        },
      );
      request.on('error', reject);
      request.end(sent);
    });
  }

  login(name: string, password = PASSWORD): Promise<Got> {
    return this.ask('POST', '/login', { body: { name, password } });
  }

  #keep(set: string[] | undefined): void {
    for (const line of set ?? []) {
      const [pair] = line.split(';');
      this.cookie = line.includes('Max-Age=0') ? undefined : pair;
    }
  }
}

/** A browser in which the first administrator, `alice`, has signed in. */
export async function firstAdministrator(site: TestSite): Promise<TestBrowser> {
  const browser = new TestBrowser(site);
  const { token } = await site.api<{ token: string }>('POST', '/first-links');
  const made = await browser.ask('POST', '/first-administrator', {
    body: { token, name: 'alice', password: PASSWORD },
  });
  if (made.status !== 200) throw new Error(`no first administrator: ${made.message}`);
  return browser;
}
