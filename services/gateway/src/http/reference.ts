import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { OpenAPIHono } from '@hono/zod-openapi'
import { asyncApiDocument } from '@pennywire/contracts/asyncapi.ts'
import { PROBLEMS } from '@pennywire/contracts/problems.ts'
import { Hono } from 'hono'
import { addExamples } from './compose-examples.ts'
import type { GatewayEnv } from './context.ts'
import type { Guards } from './define-route.ts'
import { eventsPage } from './events-page.ts'

/** Pages load scripts and styles from the gateway alone: no CDN, nothing inline. */
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
const PIECE_BYTES = 64 * 1024

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
code { overflow-wrap: break-word }
pre { overflow-x: auto; background: #f6f6f6; padding: .6rem }
.wide { overflow-x: auto }
section > section { margin: 1.5rem 0; padding-top: .5rem; border-top: 2px solid #ddd }
section:target > h3 { background: #fff3c4 }
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

/** Built at the first request and shared by all: no request has a copy of its own. */
const once = (make: () => string | Uint8Array): (() => Uint8Array) => {
  let made: Uint8Array | undefined
  return () => {
    made ??= Buffer.from(make())
    return made
  }
}

/**
 * Streams shared bytes one piece at a time on demand: a client that reads nothing holds one piece, and is detected. Between
 * two pieces other connections have their turn: a socket's buffer takes megabytes at once, and hundreds of clients that ask
 * together would hold up a payment for a second.
 */
const inPieces = (bytes: Uint8Array): ReadableStream<Uint8Array> => {
  let at = 0
  return new ReadableStream({
    pull: async controller => {
      await new Promise(resolve => setImmediate(resolve))
      controller.enqueue(bytes.subarray(at, at + PIECE_BYTES))
      at += PIECE_BYTES
      if (at >= bytes.length) controller.close()
    },
  })
}

/**
 * `/openapi.json`, built from the mounted routes, `/asyncapi.json`, built from the records' schemas, and the pages that
 * show them; if `apiDocs` is false, only the page of problems, to which every problem links.
 */
export const referenceRoutes = (
  app: OpenAPIHono<GatewayEnv>,
  { guards, apiDocs }: { guards: Pick<Guards, 'anybody'>; apiDocs: boolean },
): Hono<GatewayEnv> => {
  const routes = new Hono<GatewayEnv>()
  const { middleware } = guards.anybody()
  const serve = (
    path: string,
    contentType: string,
    make: () => string | Uint8Array,
    headers: Record<string, string> = { 'content-security-policy': PAGE_POLICY },
  ) => {
    const bytesOf = once(make)
    routes.use(path, ...middleware)
    routes.get(path, context => {
      const bytes = bytesOf()
      const { length } = bytes
      const body = length > PIECE_BYTES ? inPieces(bytes) : (bytes as Uint8Array<ArrayBuffer>)
      return context.body(body, 200, {
        'content-type': contentType,
        'content-length': String(length),
        ...headers,
      })
    })
  }
  serve('/docs/problems', 'text/html; charset=utf-8', problemsPage)
  serve('/docs/page.css', 'text/css; charset=utf-8', () => PAGE_STYLE)
  if (!apiDocs) return routes

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
  // Built at the first request: by then every route is mounted. The routes never change afterwards.
  const openApiDocument = () =>
    JSON.stringify(
      addExamples(
        app.getOpenAPI31Document({
          openapi: '3.1.0',
          info: {
            title: 'Pennywire',
            version: '1',
            description:
              'Event-driven wallet payments. Amounts are decimal strings; every route that moves money takes an ' +
              '`Idempotency-Key`; every refusal is a problem of [one closed table](/docs/problems). ' +
              'What happens is told as [events](/docs/events), too.',
            license: { name: 'Apache-2.0' },
          },
          // Relative, because the page may call its own origin only, which has several names.
          servers: [{ url: '/' }],
        }),
      ),
    )
  serve('/openapi.json', 'application/json', openApiDocument)
  serve('/docs', 'text/html; charset=utf-8', () => REFERENCE_PAGE)
  serve('/docs/events', 'text/html; charset=utf-8', () => eventsPage(asyncApiDocument()))
  serve('/asyncapi.json', 'application/json', () => JSON.stringify(asyncApiDocument()))
  serve('/docs/start.js', 'text/javascript; charset=utf-8', () => START_SCRIPT)
  for (const [name, contentType] of Object.entries(ASSETS)) {
    serve(`/docs/assets/${name}`, contentType, () => readFileSync(join(ASSETS_FOLDER, name)), {
      'cache-control': `public, max-age=${ASSET_SECONDS}`,
    })
  }
  return routes
}
