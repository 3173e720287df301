import { createRoute, z } from '@hono/zod-openapi'
import { newRoutes, type Routes } from '../../http/define-route.ts'
import { PAGE_POLICY } from '../../http/reference.ts'

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Set a new password</title>
<link rel="stylesheet" href="/docs/page.css">
</head>
<body>
<h1>Set a new password</h1>
<p><label>New password <input id="password" type="password" autocomplete="new-password"></label></p>
<p><button id="set" type="button">Set it</button></p>
<p id="answer" role="status"></p>
<script src="/v1/auth/reset-password/page.js"></script>
</body>
</html>
`

const SCRIPT = `const token = new URLSearchParams(location.search).get('token')
const answer = document.getElementById('answer')
const button = document.getElementById('set')
const field = document.getElementById('password')
history.replaceState(null, '', location.pathname)
button.addEventListener('click', async () => {
  button.disabled = true
  const response = await fetch('/v1/auth/reset-password', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ token: token ?? '', password: field.value }),
  }).catch(() => undefined)
  if (response?.ok) {
    answer.textContent = 'Your password is set. All devices were signed out; you can sign in now.'
  } else {
    button.disabled = false
    const problem = await response?.json().catch(() => undefined)
    answer.textContent = problem?.detail ?? 'That did not work. Please try again.'
  }
})
`

const pageRoute = createRoute({
  method: 'get',
  path: '/v1/auth/reset-password',
  tags: ['Accounts'],
  summary: 'The page that a mailed link for a new password leads to',
  description: 'Looking at it spends nothing; its button sends the token with the new password.',
  responses: {
    200: { description: 'The page', content: { 'text/html': { schema: z.string(), example: PAGE } } },
  },
})

/** The page behind a mailed link for a new password. Loading the page spends nothing. */
export const newPasswordPages = (): Routes => {
  const routes = newRoutes()
  routes.openapi(pageRoute, context =>
    context.body(PAGE, 200, {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': PAGE_POLICY,
    }),
  )
  routes.get('/v1/auth/reset-password/page.js', context =>
    context.body(SCRIPT, 200, { 'content-type': 'text/javascript; charset=utf-8' }),
  )
  return routes
}
