/** The page of the API: a plain HTML list of its calls, made from the OpenAPI document. Loads nothing from anywhere. */

type Operation = { summary?: string; description?: string; tags?: string[] };
type Document = { paths?: Record<string, Record<string, Operation>> };

const TITLES: Record<string, string> = {
  site: 'The site, and how its VMs stand',
  protection: 'Protection',
  recovery: 'Recovery',
  access: 'People',
  administration: 'Tokens and pairing',
  document: 'This page',
  control: 'For agents and replication servers',
  peer: 'For the managers of paired sites',
};

export function apiPage(siteName: string, document: unknown): string {
  const calls = Object.entries((document as Document).paths ?? {}).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({ path, method, ...operation })),
  );
  const sections = Object.entries(TITLES).map(([tag, title]) => {
    const rows = calls
      .filter((call) => call.tags?.includes(tag) === true)
      .map(
        ({ method, path, summary, description }) =>
          `<tr><td>${method.toUpperCase()}</td><td><code>${escape(path)}</code></td>` +
          `<td>${escape(summary ?? '')}<br><small>${escape(description ?? '')}</small></td></tr>`,
      );
    return `<h2>${title}</h2><table>${rows.join('\n')}</table>`;
  });
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Antipode at ${escape(siteName)}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid #ddd; padding: .4rem .6rem; vertical-align: top; }
td:first-child { width: 5rem; font-weight: 600; }
code, pre { background: #f4f4f4; padding: .1rem .3rem; }
pre { padding: .8rem; overflow-x: auto; }
small { color: #666; }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #ddd; } code, pre { background: #2a2a2a; } td { border-color: #444; }
}
</style>
</head>
<body>
<h1>Antipode at ${escape(siteName)}</h1>
<p>Site recovery for KVM. Everything the command line does goes through these calls; programs read
<a href="/api/v1/openapi.json">the OpenAPI document</a>.</p>
<p>As root on the manager the Unix socket needs no token. From elsewhere, make a token there with
<code>antipode token NAME</code> and send it:</p>
<pre>curl --cacert ca.pem -H "Authorization: Bearer TOKEN" https://THIS-ADDRESS/api/v1/status</pre>
${sections.join('\n')}
</body>
</html>
`;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
