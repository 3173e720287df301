import { createRoute, z } from '@hono/zod-openapi'
import { newRoutes, type Routes } from './define-route.ts'
import { PAGE_POLICY } from './reference.ts'

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Verify your e-mail address</title>
<link rel="stylesheet" href="/docs/page.css">
</head>
<body>
<h1>Verify your e-mail address</h1>
<p><button id="verify" type="button">Verify my address</button></p>
<p id="answer" role="status"></p>
<script src="/v1/auth/verify-email/page.js"></script>
</body>
</html>
`

const SCRIPT = `const token = new URLSearchParams(location.search).get('token')
const answer = document.getElementById('answer')
const button = document.getElementById('verify')
history.replaceState(null, '', location.pathname)
button.addEventListener('click', async () => {
  button.disabled = true
  const response = await fetch('/v1/auth/verify-email', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ token: token ?? '' }),
  }).catch(() => undefined)
  if (response?.ok) {
    answer.textContent = 'Your address is verified. You can sign in now.'
  } else {
    button.disabled = false
    const problem = await response?.json().catch(() => undefined)
    answer.textContent = problem?.detail ?? 'That did not work. Please try again.'
  }
})
`

const pageRoute = createRoute({
  method: 'get',
  path: '/v1/auth/verify-email',
  tags: ['Accounts'],
  summary: 'The page that a mailed link leads to',
  description: 'Looking at it spends nothing; its button sends the token.',
  responses: {
    200: { description: 'The page', content: { 'text/html': { schema: z.string(), example: PAGE } } },
  },
})

/**
 * Where a mailed link leads. Looking at it spends nothing: mail scanners and previews follow links, so only the
 * button sends the token.
 */
export const verificationPages = (): Routes => {
  const routes = newRoutes()
  routes.openapi(pageRoute, context =>
    context.body(PAGE, 200, {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': PAGE_POLICY,
    }),
  )
  routes.get('/v1/auth/verify-email/page.js', context =>
    context.body(SCRIPT, 200, { 'content-type': 'text/javascript; charset=utf-8' }),
  )
  return routes
}
