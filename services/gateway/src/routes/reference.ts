import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { OpenAPIHono } from '@hono/zod-openapi'
import { PROBLEMS } from '@pennywire/contracts/problems.ts'
import { Hono } from 'hono'
import { addExamples } from './compose-examples.ts'
import type { GatewayEnv } from './define-route.ts'

/** Pages take scripts and styles from the gateway alone: no CDN, nothing inline. */
export const PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const ASSETS: Record<string, string> = {
  'swagger-ui.css': 'text/css; charset=utf-8',
  'swagger-ui-bundle.js': 'text/javascript; charset=utf-8',
  'favicon-32x32.png': 'image/png',
}
const ASSETS_FOLDER = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'))
const ASSET_SECONDS = 60 * 60

const REFERENCE_PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pennywire API</title>
<link rel="icon" href="/docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="reference"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`

const START_SCRIPT = `SwaggerUIBundle({ url: '/openapi.json', dom_id: '#reference', deepLinking: true, tryItOutEnabled: true })
`

const PAGE_STYLE = `body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }
tr:target { background: #fff3c4 }
button { font: inherit; padding: .5rem 1rem }
`

const problemsPage = () => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pennywire problems</title>
<link rel="stylesheet" href="/docs/page.css">
</head>
<body>
<h1>Problems</h1>
<p>Every refusal is an RFC 9457 problem with one of these codes. <em>Retryable</em>: the same request may succeed
later. <em>Final</em>: the answer is kept for its Idempotency-Key, a new attempt needs a new key.</p>
<table>
<thead><tr><th>Code</th><th>Status</th><th>Meaning</th><th>Retryable</th><th>Final</th></tr></thead>
<tbody>
${Object.entries(PROBLEMS)
  .map(
    ([code, { status, title, retryable, final }]) =>
      `<tr id="${code}"><td><code>${code}</code></td><td>${status}</td><td>${title}</td>` +
      `<td>${retryable ? 'yes' : 'no'}</td><td>${final ? 'yes' : 'no'}</td></tr>`,
  )
  .join('\n')}
</tbody>
</table>
</body>
</html>
`

/** `/openapi.json`, made from the routes that are mounted, and the pages that show it. */
export const referenceRoutes = (app: OpenAPIHono<GatewayEnv>): Hono<GatewayEnv> => {
  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: 'The `accessToken` of a sign-in.',
  })
  app.openAPIRegistry.registerComponent('securitySchemes', 'apiKey', {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'pwk_…',
    description:
      'An API key of `POST /v1/api-keys`, for back ends. It must have the scope that stands at the route as ' +
      '`x-required-scope`.',
  })
  // Made at the first request: by then every route is mounted. The routes never change afterwards.
  // As text: writing it out each time would make it the dearest answer that nobody has to sign in for.
  let document: string | undefined
  const openApiDocument = () => {
    document ??= JSON.stringify(
      addExamples(
        app.getOpenAPI31Document({
          openapi: '3.1.0',
          info: {
            title: 'Pennywire',
            version: '1',
            description:
              'Event-driven wallet payments. Amounts are decimal strings; every route that moves money takes an ' +
              '`Idempotency-Key`; every refusal is a problem of [one closed table](/docs/problems).',
            license: { name: 'Apache-2.0' },
          },
          // Relative, because the page may call its own origin only, by whatever name it was reached.
          servers: [{ url: '/' }],
        }),
      ),
    )
    return document
  }

  const routes = new Hono<GatewayEnv>()
  const page = (path: string, contentType: string, body: () => string) =>
    routes.get(path, context =>
      context.body(body(), 200, { 'content-type': contentType, 'content-security-policy': PAGE_POLICY }),
    )
  page('/docs', 'text/html; charset=utf-8', () => REFERENCE_PAGE)
  page('/docs/problems', 'text/html; charset=utf-8', problemsPage)
  page('/docs/start.js', 'text/javascript; charset=utf-8', () => START_SCRIPT)
  page('/docs/page.css', 'text/css; charset=utf-8', () => PAGE_STYLE)
  routes.get('/openapi.json', context =>
    context.body(openApiDocument(), 200, { 'content-type': 'application/json' }),
  )
  for (const [name, contentType] of Object.entries(ASSETS)) {
    routes.get(`/docs/assets/${name}`, async context =>
      context.body(new Uint8Array(await readFile(join(ASSETS_FOLDER, name))), 200, {
        'content-type': contentType,
        'cache-control': `public, max-age=${ASSET_SECONDS}`,
      }),
    )
  }
  return routes
}
