import { randomBytes } from 'node:crypto'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair } from 'jose'
import { vi } from 'vitest'

/** For tests: the provider's claims about a user. */
export type Claims = { sub: string; email?: string; email_verified?: unknown; name?: unknown }

/**
 * For tests: a real OpenID provider on this machine, with its login and consent pages. With `inIdToken` its ID tokens
 * contain the address, else only userinfo does. `exchanges` stores requests and responses of its token endpoint.
 */
export const startOidcProvider = async (options: {
  clientId: string
  clientSecret: string
  redirectUris: string[]
  inIdToken: boolean
}) => {
  const { clientId, clientSecret, redirectUris, inIdToken } = options
  const people = new Map<string, Claims>()
  const exchanges: Array<{ params: Record<string, unknown>; answered: Record<string, unknown> }> = []
  let change: { path: string; by: (body: Record<string, unknown>) => void } | undefined

  let handle: RequestListener = () => {}
  const server = createServer((request, response) => handle(request, response))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { privateKey } = await generateKeyPair('RS256', { extractable: true })
  // The provider warns about test use, and about this Node.
  const quiet = [vi.spyOn(console, 'warn'), vi.spyOn(console, 'info')].map(spy => spy.mockReturnValue())
  const { Provider } = await import('oidc-provider')
  const provider = new Provider(issuer, {
    clients: [{ client_id: clientId, client_secret: clientSecret, redirect_uris: redirectUris }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    conformIdTokenClaims: !inIdToken,
    // PKCE need not be required: a code bound to a challenge needs its verifier anyway.
    pkce: { required: () => false },
    jwks: { keys: [{ ...(await exportJWK(privateKey)), kid: 'provider-1', alg: 'RS256', use: 'sig' }] },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    ttl: { Session: 600, Grant: 600, Interaction: 600, AccessToken: 600, IdToken: 600 },
    findAccount: (_context, sub) => {
      const claims = people.get(sub)
      return claims && { accountId: sub, claims: async () => claims as Claims & { [claim: string]: never } }
    },
  })
  provider.use(async (context, next) => {
    await next()
    if (context.path === change?.path) change.by(context.body as Record<string, unknown>)
    if (context.path !== '/token') return
    exchanges.push({ params: { ...context.oidc.params }, answered: { ...(context.body as object) } })
  })
  handle = provider.callback()
  for (const spy of quiet) spy.mockRestore()

  return {
    issuer,
    people,
    exchanges,
    /** Changes the provider's responses at a path while `work` runs. */
    tamper: async (
      path: string,
      by: (body: Record<string, unknown>) => void,
      work: () => Promise<void>,
    ): Promise<void> => {
      change = { path, by }
      await work().finally(() => {
        change = undefined
      })
    },
    stop: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

/**
 * For tests: a user at a provider's pages. Opens a URL as a browser does, logs in as `sub`, consents (or aborts), and
 * follows redirects until one leaves the provider; returns its URL.
 */
export const passProvider = async (url: string, sub: string, abort = false): Promise<URL> => {
  const cookies = new Map<string, string>()
  let next = new URL(url)
  const { origin } = next
  let form: URLSearchParams | undefined
  for (let steps = 0; steps < 20; steps++) {
    const response = await fetch(next, {
      redirect: 'manual',
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
      ...(form ? { method: 'POST', body: form } : {}),
    })
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!
      if (value === '') cookies.delete(name!)
      else cookies.set(name!, value!)
    }
    form = undefined
    const location = response.headers.get('location')
    const page = await response.text()
    if (location) {
      next = new URL(location, next)
      if (next.origin !== origin) return next
    } else if (page.includes('name="prompt" value="login"')) {
      if (abort) next = new URL(`${next.pathname}/abort`, next)
      else form = new URLSearchParams({ prompt: 'login', login: sub, password: 'any' })
    } else if (page.includes('name="prompt" value="consent"')) {
      form = new URLSearchParams({ prompt: 'consent' })
    } else {
      throw new Error(`the provider answered ${response.status}: ${page.slice(0, 500)}`)
    }
  }
  throw new Error('the provider sends round in circles')
}
