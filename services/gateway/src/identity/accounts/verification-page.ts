import { createRoute, z } from '@hono/zod-openapi'
import { newRoutes, type Routes } from '../../http/define-route.ts'
import { PAGE_POLICY } from '../../http/reference.ts'

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
<form id="known">
<p>You signed up yourself: give the password that you chose.</p>
<p><label>Password <input id="password" type="password" autocomplete="current-password" required></label></p>
<p><button>Verify my address</button></p>
</form>
<form id="own">
<p>Somebody else signed up, or you forgot the password: set your own. The one of the sign-up is worthless then.</p>
<p><label>Your name <input id="name" autocomplete="name" required></label></p>
<p><label>New password <input id="new-password" type="password" autocomplete="new-password" required></label></p>
<p><button>Verify my address and set this password</button></p>
</form>
<p id="answer" role="status"></p>
<script src="/v1/auth/verify-email/page.js"></script>
</body>
</html>
`

const SCRIPT = `const token = new URLSearchParams(location.search).get('token') ?? ''
const answer = document.getElementById('answer')
const value = id => document.getElementById(id).value
history.replaceState(null, '', location.pathname)
const send = (form, proof) =>
  document.getElementById(form).addEventListener('submit', async event => {
    event.preventDefault()
    const buttons = [...document.querySelectorAll('button')]
    for (const button of buttons) button.disabled = true
    const response = await fetch('/v1/auth/verify-email', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token, ...proof() }),
    }).catch(() => undefined)
    if (response?.ok) {
      answer.textContent = 'Your address is verified. You can sign in now.'
      return
    }
    for (const button of buttons) button.disabled = false
    const problem = await response?.json().catch(() => undefined)
    answer.textContent = problem?.detail ?? 'That did not work. Please try again.'
  })
send('known', () => ({ password: value('password') }))
send('own', () => ({ newPassword: value('new-password'), fullName: value('name') }))
`

const pageRoute = createRoute({
  method: 'get',
  path: '/v1/auth/verify-email',
  tags: ['Accounts'],
  summary: 'The page that a mailed link leads to',
  description:
    'Looking at it spends nothing. It asks for the password of the sign-up, or for a new one, and sends it with the token.',
  responses: {
    200: { description: 'The page', content: { 'text/html': { schema: z.string(), example: PAGE } } },
  },
})

/**
 * The page behind a mailed link. Loading the page spends nothing: mail scanners and previews follow links. The page
 * never sends the token alone, because the owner of an address would verify a stranger's password with it.
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
