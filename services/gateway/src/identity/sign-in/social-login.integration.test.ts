import { randomBytes } from 'node:crypto'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { metricsText } from '@pennywire/runtime/metrics.ts'
import { Secret, TOTP } from 'otpauth'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import {
  countKept,
  countOidcRequests,
  createGatewayDatabase,
  decodeOutbox,
  dumpTables,
  linkIdentity,
  setClocks,
} from '../../sql/test-database.ts'
import { createTestGateway, createTestKeys, type TestGateway, type TestKeys } from '../../test-gateway.ts'
import { type Claims, passProvider, startOidcProvider } from './test-oidc-provider.ts'

const { superuserUrl, redisUrl } = inject('stack')

const PASSWORD = 'Correct-Horse-7'
const NEXT = 'Battery-Staple-8'
const CLIENT = { clientId: 'pennywire', clientSecret: randomBytes(24).toString('base64url') }
const PUBLIC_URL = 'http://pennywire.test'
const RETURN_TO = 'https://app.example/signed-in'

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let owner: Database
let keys: TestKeys
let gateway: TestGateway
/** Its ID tokens contain addresses; `beta` returns them at userinfo only. */
let alpha: Awaited<ReturnType<typeof startOidcProvider>>
let beta: Awaited<ReturnType<typeof startOidcProvider>>

const openGateway = async (env: Record<string, string> = {}) => {
  const opened = await createTestGateway({
    sql,
    databaseUrl: database.url,
    redisUrl,
    keys,
    env: {
      OIDC_PROVIDERS_FILE: keys.file('oidc.json', {
        providers: [
          { name: 'alpha', label: 'Alpha', issuer: alpha.issuer, ...CLIENT },
          { name: 'beta', label: 'Beta', issuer: beta.issuer, ...CLIENT },
          { name: 'away', label: 'Away', issuer: 'http://127.0.0.1:1', ...CLIENT },
          { name: 'stranger', label: 'Stranger', issuer: alpha.issuer, ...CLIENT, clientSecret: 'wrong' },
        ],
      }),
      OIDC_RETURN_URLS: ` ${RETURN_TO},https://other.example/in `,
      BOOTSTRAP_ADMIN_EMAIL: 'root@example.com',
      ...env,
    },
  })
  await vi.waitFor(() => opened.identity.check())
  return opened
}

beforeAll(async () => {
  const redirectUris = ['alpha', 'beta', 'stranger'].map(
    name => `${PUBLIC_URL}/v1/auth/oidc/${name}/callback`,
  )
  alpha = await startOidcProvider({ ...CLIENT, redirectUris, inIdToken: true })
  beta = await startOidcProvider({ ...CLIENT, redirectUris, inIdToken: false })
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  owner = openDatabase(database.urlAs(), { applicationName: 'test', maxConnections: 2 })
  keys = await createTestKeys()
  gateway = await openGateway()
})

afterAll(async () => {
  gateway.stop()
  alpha.stop()
  beta.stop()
  keys.remove()
  await sql.end()
  await owner.end()
  await database.drop()
})

type Answer = Awaited<ReturnType<TestGateway['ask']>>

/** Registers a person at both providers. */
const person = (claims: Partial<Claims> = {}) => {
  const id = randomBytes(6).toString('hex')
  const known: Claims & { email?: string } = {
    sub: `sub-${id}`,
    email: `${id}@example.com`,
    email_verified: true,
    name: 'Olga Open',
    ...claims,
  }
  for (const provider of [alpha, beta]) provider.people.set(known.sub, known)
  return { ...known, email: known.email! }
}

/** A browser: keeps the gateway's cookie, goes to providers and comes back. */
const openBrowser = (through = gateway) => {
  let cookie: string | undefined
  const headers = () => ({ 'user-agent': 'Test/1.0', ...(cookie === undefined ? {} : { cookie }) })
  const keep = (answer: Answer) => {
    for (const line of answer.headers.getSetCookie()) {
      if (line.includes('pennywire_oidc')) cookie = line.split(';')[0]
    }
    return answer
  }
  const begin = async (provider: string, query = '') =>
    keep(await through.ask('GET', `/v1/auth/oidc/${provider}${query}`, { headers: headers() }))
  const finish = (back: URL) => through.ask('GET', `${back.pathname}${back.search}`, { headers: headers() })
  const beginLink = async (user: { accessToken: string }, body: object) =>
    keep(
      await through.ask('POST', '/v1/users/me/external-identities/oidc', {
        token: user.accessToken,
        headers: headers(),
        body: { provider: 'alpha', password: PASSWORD, ...body },
      }),
    )
  return {
    begin,
    finish,
    beginLink,
    cookie: () => cookie,
    /** Passes the provider's pages; resolves with the URL that the provider sends the browser back to. */
    goThrough: async (provider: string, sub: string, query = '', change = (url: URL) => url) => {
      const { status, headers: answered } = await begin(provider, query)
      expect(status).toBe(302)
      return passProvider(change(new URL(answered.get('location')!)).href, sub)
    },
  }
}

const signIn = async (sub: string, provider = 'alpha', query = '') => {
  const browser = openBrowser()
  return browser.finish(await browser.goThrough(provider, sub, query))
}
const linkTo = async (user: { accessToken: string }, sub: string) => {
  const browser = openBrowser()
  const { status, body } = await browser.beginLink(user, {})
  expect(status).toBe(200)
  return browser.finish(await passProvider(body.authorizationUrl, sub))
}

const codeOf = ({ status, body }: { status: number; body: { code?: string } }) => [status, body?.code]
const post = (path: string, body: object, token?: string) =>
  gateway.ask('POST', path, { body, ...(token === undefined ? {} : { token }) })
const me = (token: string) => gateway.ask('GET', '/v1/users/me', { token })
const eventsOf = async (userId: string) =>
  (await decodeOutbox(sql, gateway.codec))
    .filter(({ key, topic }) => key === userId && topic === 'identity.events')
    .map(({ type }) => type.split('.').at(-1)!)
const identitiesOf = async (token: string) =>
  (await gateway.ask('GET', '/v1/users/me/external-identities', { token })).body.items

describe('signing up and in', () => {
  test('the whole way: an account of the address that the provider has verified, then a sign-in to it', async () => {
    const olga = person({ email: `Olga.${randomBytes(4).toString('hex')}@Example.com` })
    const { status, headers, body } = await signIn(olga.sub)
    expect([status, headers.get('cache-control'), headers.get('referrer-policy')]).toEqual([
      ...[200, 'no-store', 'no-referrer'],
    ])
    const email = olga.email.toLowerCase()
    expect(body).toMatchObject({
      tokenType: 'Bearer',
      newUser: true,
      user: { email, fullName: 'Olga Open', emailVerified: true, roles: ['user'] },
    })
    const userId = body.user.id
    expect((await me(body.accessToken)).body).toMatchObject({ id: userId, hasPassword: false })
    expect(await identitiesOf(body.accessToken)).toMatchObject([{ issuer: alpha.issuer, subject: olga.sub }])
    expect(await eventsOf(userId)).toEqual([
      ...['UserRegistered', 'EmailVerified', 'ExternalIdentityLinked', 'SessionStarted'],
    ])

    // The address may have changed at the provider: only the subject counts.
    alpha.people.set(olga.sub, { ...olga, email: 'else@example.com', email_verified: false })
    const again = await signIn(olga.sub)
    expect([again.status, again.body.newUser, again.body.user]).toEqual([200, false, body.user])
    const logins = await gateway.ask('GET', '/v1/users/me/logins', { token: body.accessToken })
    expect(logins.body.items.map(({ method, outcome }: Record<string, string>) => [method, outcome])).toEqual(
      [
        ...[
          ['oidc', 'signed_in'],
          ['oidc', 'signed_in'],
        ],
      ],
    )
    expect((await post('/v1/auth/refresh', { refreshToken: again.body.refreshToken })).status).toBe(200)
  })

  test('the provider is asked for what its ID token does not say; each provider’s subject is its own', async () => {
    const olga = person()
    const first = await signIn(olga.sub, 'beta')
    expect([first.status, first.body.newUser, first.body.user.fullName]).toEqual([200, true, 'Olga Open'])
    // The same subject at another issuer is another person, whose address already has an account.
    expect(codeOf(await signIn(olga.sub, 'alpha'))).toEqual([409, 'EXTERNAL_IDENTITY_NOT_LINKED'])
    expect((await signIn(olga.sub, 'beta')).body.user.id).toBe(first.body.user.id)
  })

  test('the list of providers', async () => {
    const { status, body } = await gateway.ask('GET', '/v1/auth/oidc')
    expect([status, body.items[0], body.items.length]).toEqual([
      200,
      { name: 'alpha', label: 'Alpha', url: `${PUBLIC_URL}/v1/auth/oidc/alpha` },
      4,
    ])
    expect(codeOf(await gateway.ask('GET', '/v1/auth/oidc/nobody'))).toEqual([404, 'OIDC_PROVIDER_NOT_FOUND'])
    expect(JSON.stringify(body)).not.toContain(CLIENT.clientSecret)
  })

  test('what is sent to the provider: state, nonce and an S256 challenge; the cookie is the browser’s alone', async () => {
    const browser = openBrowser()
    const { headers } = await browser.begin('alpha')
    const url = new URL(headers.get('location')!)
    expect([url.origin, headers.get('referrer-policy'), headers.get('cache-control')]).toEqual([
      ...[alpha.issuer, 'no-referrer', 'no-store'],
    ])
    const sent = Object.fromEntries(url.searchParams)
    expect(sent).toMatchObject({
      response_type: 'code',
      client_id: CLIENT.clientId,
      scope: 'openid email profile',
      redirect_uri: `${PUBLIC_URL}/v1/auth/oidc/alpha/callback`,
      code_challenge_method: 'S256',
    })
    for (const name of ['state', 'nonce', 'code_challenge']) expect(sent[name]).toMatch(/^[\w-]{43}$/)
    const [cookie] = headers.getSetCookie()
    expect(cookie).toMatch(/^pennywire_oidc=[\w-]{43}; Max-Age=600; Path=\/; HttpOnly; SameSite=Lax$/)

    const overHttps = await openGateway({ PUBLIC_URL: 'https://pay.example' })
    const secure = await overHttps.ask('GET', '/v1/auth/oidc/alpha')
    expect(secure.headers.getSetCookie()[0]).toMatch(
      /^__Host-pennywire_oidc=[\w-]{43}; Max-Age=600; Path=\/; HttpOnly; Secure; SameSite=Lax$/,
    )
    overHttps.stop()
  })

  test('two tabs of one browser do not undo each other', async () => {
    const browser = openBrowser()
    const [olga, otto] = [person(), person()]
    const first = await browser.goThrough('alpha', olga.sub)
    const second = await browser.goThrough('beta', otto.sub)
    expect((await browser.finish(first)).body.user.email).toBe(olga.email)
    expect((await browser.finish(second)).body.user.email).toBe(otto.email)
  })

  test('a name that breaks the rules for names is made one that does not; an address is no name', async () => {
    const nameOf = async (name: unknown) => (await signIn(person({ name }).sub)).body.user.fullName
    expect(await nameOf('  Eve\u0000\nEvil ')).toBe('Eve Evil')
    expect(await nameOf('E'.repeat(150))).toBe('E'.repeat(100))
    expect(await nameOf('E')).toBe('E')
    expect(await nameOf('You won: https://evil.example')).toBe('New user')
    expect(await nameOf('\u200b\u200b')).toBe('New user')
    expect(await nameOf(undefined)).toBe('New user')
  })

  test('the owner of BOOTSTRAP_ADMIN_EMAIL is super_admin, as when the address is verified by mail', async () => {
    const { body } = await signIn(person({ email: 'root@example.com' }).sub)
    expect(body.user.roles).toEqual(['user', 'super_admin'])
    expect(await eventsOf(body.user.id)).toContain('RoleChanged')
  })
})

describe('the front end gets the browser back', () => {
  test('with the refresh token in the cookie, and nothing in the URL', async () => {
    const olga = person()
    const query = `?returnTo=${encodeURIComponent(RETURN_TO)}`
    const first = await signIn(olga.sub, 'alpha', query)
    expect([first.status, first.headers.get('location')]).toEqual([303, `${RETURN_TO}#newUser=true`])
    const again = await signIn(olga.sub, 'alpha', query)
    expect([again.status, again.headers.get('location'), again.text]).toEqual([303, RETURN_TO, ''])
    const cookie = again.headers.getSetCookie().find(line => line.startsWith('pennywire_refresh='))!
    expect(cookie).toMatch(/HttpOnly; SameSite=Strict/)
    const refreshed = await gateway.ask('POST', '/v1/auth/refresh', {
      headers: { cookie: cookie.split(';')[0]!, 'sec-fetch-site': 'same-origin' },
      body: {},
    })
    expect([refreshed.status, refreshed.body.user.email]).toEqual([200, olga.email])
  })

  test('only to URLs that the settings name, in full: no open redirect', async () => {
    for (const returnTo of [
      'https://evil.example/',
      `${RETURN_TO}/more`,
      `${RETURN_TO}?x=1`,
      `${RETURN_TO}#x`,
      'https://app.example',
      '//evil.example',
      'javascript:alert(1)',
      '',
    ]) {
      const answer = await openBrowser().begin('alpha', `?returnTo=${encodeURIComponent(returnTo)}`)
      expect([returnTo, ...codeOf(answer)]).toEqual([returnTo, 422, 'VALIDATION_ERROR'])
      expect(answer.headers.get('location')).toBe(null)
    }
    const user = await gateway.signedInUser()
    const input = { returnTo: 'https://evil.example/' }
    expect(codeOf(await openBrowser().beginLink(user, input))).toEqual([422, 'VALIDATION_ERROR'])
  })

  test('failures are told behind the #, by their code', async () => {
    const query = `?returnTo=${encodeURIComponent(RETURN_TO)}`
    const refused = await signIn(person({ email_verified: false }).sub, 'alpha', query)
    expect([refused.status, refused.headers.get('location')]).toEqual([
      ...[303, `${RETURN_TO}#error=EXTERNAL_EMAIL_NOT_VERIFIED`],
    ])
    const away = await openBrowser().begin('away', query)
    expect([away.status, away.headers.get('location')]).toEqual([
      ...[303, `${RETURN_TO}#error=SERVICE_UNAVAILABLE`],
    ])
  })
})

describe('what does not belong together is refused', () => {
  const invalid = [400, 'OIDC_STATE_INVALID']

  test('no state, another state, and a callback that nobody began', async () => {
    const browser = openBrowser()
    const back = await browser.goThrough('alpha', person().sub)
    for (const state of [undefined, '', randomBytes(32).toString('base64url')]) {
      const url = new URL(back)
      if (state === undefined) url.searchParams.delete('state')
      else url.searchParams.set('state', state)
      expect(codeOf(await browser.finish(url))).toEqual(invalid)
    }
    // None of these callbacks spent the request.
    expect((await browser.finish(back)).status).toBe(200)
  })

  test('a replay: the state is good once, for two at once as well', async () => {
    const browser = openBrowser()
    const olga = person()
    const back = await browser.goThrough('alpha', olga.sub)
    const answers = await Promise.all([browser.finish(back), browser.finish(back)])
    expect(answers.map(codeOf).sort()).toEqual([[200, undefined], invalid])
    expect(codeOf(await browser.finish(back))).toEqual(invalid)
    const { user } = answers.find(({ status }) => status === 200)!.body
    expect((await eventsOf(user.id)).filter(name => name === 'SessionStarted')).toHaveLength(1)
  })

  test('a code is good once: another request of the same browser does not bring it in again', async () => {
    const browser = openBrowser()
    const olga = person()
    const used = await browser.goThrough('alpha', olga.sub)
    const fresh = await browser.goThrough('alpha', olga.sub)
    expect((await browser.finish(used)).status).toBe(200)
    fresh.searchParams.set('code', used.searchParams.get('code')!)
    expect(codeOf(await browser.finish(fresh))).toEqual(invalid)
  })

  test('after ten minutes', async () => {
    const browser = openBrowser()
    const back = await browser.goThrough('alpha', person().sub)
    await setClocks.expireOidcRequests(owner)
    expect(codeOf(await browser.finish(back))).toEqual(invalid)
  })

  test('login CSRF: another browser, with no cookie or its own, is not signed in, and spends nothing', async () => {
    const attacker = openBrowser()
    const back = await attacker.goThrough('alpha', person().sub)
    expect(codeOf(await openBrowser().finish(back))).toEqual(invalid)
    const victim = openBrowser()
    await victim.begin('alpha')
    expect(codeOf(await victim.finish(back))).toEqual(invalid)
    expect((await attacker.finish(back)).status).toBe(200)
  })

  test('an ID token of another request (nonce), or of none', async () => {
    const olga = person()
    for (const nonce of [randomBytes(32).toString('base64url'), undefined]) {
      const browser = openBrowser()
      const back = await browser.goThrough('alpha', olga.sub, '', url => {
        if (nonce === undefined) url.searchParams.delete('nonce')
        else url.searchParams.set('nonce', nonce)
        return url
      })
      expect(codeOf(await browser.finish(back))).toEqual(invalid)
    }
  })

  test('a code that another’s PKCE challenge binds, or none at all', async () => {
    const olga = person()
    for (const challenge of [randomBytes(32).toString('base64url'), undefined]) {
      const browser = openBrowser()
      const back = await browser.goThrough('alpha', olga.sub, '', url => {
        if (challenge !== undefined) url.searchParams.set('code_challenge', challenge)
        else for (const name of ['code_challenge', 'code_challenge_method']) url.searchParams.delete(name)
        return url
      })
      expect(codeOf(await browser.finish(back))).toEqual(invalid)
    }
    expect(alpha.exchanges.at(-1)!.params).toMatchObject({
      code_verifier: expect.stringMatching(/^[\w-]{43}$/),
    })
  })

  test('an ID token that somebody changed, signed or not, and a userinfo of somebody else', async () => {
    const [olga, victim] = [person(), person()]
    await signIn(victim.sub)
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const forge = (token: unknown, header?: object) => {
      const [head, payload, signature] = String(token).split('.')
      const claims = JSON.parse(Buffer.from(payload!, 'base64url').toString())
      const forged = encode({ ...claims, sub: victim.sub })
      return header ? `${encode(header)}.${forged}.` : `${head}.${forged}.${signature}`
    }
    for (const header of [undefined, { alg: 'none' }]) {
      const forgeIt = (body: Record<string, unknown>) => {
        body.id_token = forge(body.id_token, header)
      }
      await alpha.tamper('/token', forgeIt, async () => {
        expect(codeOf(await signIn(olga.sub))).toEqual(invalid)
      })
    }
    const name = (body: Record<string, unknown>) => {
      body.sub = victim.sub
    }
    await beta.tamper('/me', name, async () => {
      expect(codeOf(await signIn(olga.sub, 'beta'))).toEqual(invalid)
    })
  })

  test('mix-up: what one provider sent is taken at no other’s callback, and no other’s code at this one', async () => {
    const olga = person()
    const browser = openBrowser()
    const back = await browser.goThrough('alpha', olga.sub)
    const elsewhere = new URL(back)
    elsewhere.pathname = elsewhere.pathname.replace('alpha', 'beta')
    expect(codeOf(await browser.finish(elsewhere))).toEqual(invalid)
    expect(codeOf(await browser.finish(back))).toEqual(invalid)

    const exchanged = beta.exchanges.length
    for (const iss of [alpha.issuer, undefined]) {
      const ofAlpha = await browser.goThrough('alpha', olga.sub)
      const ofBeta = await browser.goThrough('beta', olga.sub)
      ofBeta.searchParams.set('code', ofAlpha.searchParams.get('code')!)
      if (iss === undefined) ofBeta.searchParams.delete('iss')
      else ofBeta.searchParams.set('iss', iss)
      expect(codeOf(await browser.finish(ofBeta))).toEqual(invalid)
    }
    // The code was not sent to the wrong provider.
    expect(beta.exchanges.length).toBe(exchanged)
  })

  test('a person who says no, and a provider that does', async () => {
    const browser = openBrowser()
    const { headers } = await browser.begin('alpha')
    const back = await passProvider(headers.get('location')!, 'nobody', true)
    expect(back.searchParams.get('error')).toBe('access_denied')
    const refused = await browser.finish(back)
    expect([...codeOf(refused), refused.body.error]).toEqual([403, 'OIDC_REFUSED', 'access_denied'])
    expect(codeOf(await browser.finish(back))).toEqual(invalid)
  })
})

describe('callbacks that no provider sends', () => {
  test.each([
    ['no code', (url: URL) => url.searchParams.delete('code')],
    ['an empty one', (url: URL) => url.searchParams.set('code', '')],
    ['a JWT for an answer (JARM)', (url: URL) => url.searchParams.set('response', 'a.b.c')],
    ['tokens in the query', (url: URL) => url.searchParams.set('id_token', 'a.b.c')],
    ['a code and an error', (url: URL) => url.searchParams.set('error', 'access_denied')],
    ['an error that would be two lines', (url: URL) => url.searchParams.set('error', 'x\r\nset-cookie: a=b')],
    ['a code of another alphabet', (url: URL) => url.searchParams.set('code', '\u0000\ud83d\ude00\r\n')],
    ['two codes', (url: URL) => url.searchParams.append('code', 'x')],
    ['two states', (url: URL) => url.searchParams.append('state', 'x')],
    ['two issuers', (url: URL) => url.searchParams.append('iss', 'https://evil.example')],
    ['a code beyond measure', (url: URL) => url.searchParams.set('code', 'x'.repeat(5_000))],
  ])('%s: refused, with no tokens and no trouble', async (_what, change) => {
    const olga = person()
    const logged = gateway.logLines.length
    for (const query of ['', `?returnTo=${encodeURIComponent(RETURN_TO)}`]) {
      const browser = openBrowser()
      const back = await browser.goThrough('alpha', olga.sub, query)
      change(back)
      const answer = await browser.finish(back)
      const told = answer.headers.get('location') ?? answer.text
      expect([answer.status, told]).toEqual([
        expect.toBeOneOf([303, 400, 403, 422]),
        expect.stringMatching(/OIDC_STATE_INVALID|OIDC_REFUSED|VALIDATION_ERROR/),
      ])
      expect(answer.headers.getSetCookie()).toEqual([])
    }
    expect(gateway.logLines.slice(logged).filter(line => line.includes('"level":"error"'))).toEqual([])
  })

  test('a query that is no UTF-8', async () => {
    const browser = openBrowser()
    const back = await browser.goThrough('alpha', person().sub)
    const ask = (search: string) =>
      gateway.ask('GET', `${back.pathname}?${search}`, { headers: { cookie: browser.cookie()! } })
    expect(codeOf(await ask('state=%ff%fe%00&code=%ff'))).toEqual([422, 'VALIDATION_ERROR'])
    expect(codeOf(await gateway.ask('GET', '/v1/auth/oidc/%ff%00'))).toEqual([422, 'VALIDATION_ERROR'])
  })
})

test('a subject that no table could keep is nobody’s', async () => {
  const { sub } = person({ sub: `a\u0000${randomBytes(6).toString('hex')}` })
  expect(codeOf(await signIn(sub))).toEqual([400, 'OIDC_STATE_INVALID'])
})

describe('a provider that is away', () => {
  test('is 503 for its own sign-ins, and nothing to anybody else’s', async () => {
    const answer = await openBrowser().begin('away')
    expect([...codeOf(answer), answer.body.retryable]).toEqual([503, 'SERVICE_UNAVAILABLE', true])
    const user = await gateway.signedInUser()
    expect((await post('/v1/auth/login', { email: user.email, password: PASSWORD })).status).toBe(200)
    expect((await signIn(person().sub)).status).toBe(200)
  })

  test('between begin and callback as well; a wrong client secret is no fault of the person’s', async () => {
    const gone = await startOidcProvider({
      ...CLIENT,
      redirectUris: [`${PUBLIC_URL}/v1/auth/oidc/gone/callback`],
      inIdToken: true,
    })
    const olga = person()
    gone.people.set(olga.sub, olga)
    const through = await openGateway({
      OIDC_PROVIDERS_FILE: keys.file('gone.json', {
        providers: [{ name: 'gone', label: 'Gone', issuer: gone.issuer, ...CLIENT }],
      }),
    })
    const browser = openBrowser(through)
    const back = await browser.goThrough('gone', olga.sub)
    gone.stop()
    expect(codeOf(await browser.finish(back))).toEqual([503, 'SERVICE_UNAVAILABLE'])
    through.stop()
    expect(codeOf(await signIn(olga.sub, 'stranger'))).toEqual([503, 'SERVICE_UNAVAILABLE'])
    const why = gateway.logLines.filter(line => line.includes('"stranger"')).join()
    expect(why).toContain('invalid_client')
  })
})

describe('no account is taken over', () => {
  test('an address that the provider has not verified makes nothing and opens nothing', async () => {
    const victim = await gateway.signedInUser()
    for (const claims of [
      { email_verified: false },
      { email_verified: undefined },
      { email_verified: 'true' },
      { email_verified: 1 },
      { email: undefined },
      { email: 'no address' },
      { email: victim.email, email_verified: false },
    ]) {
      for (const provider of ['alpha', 'beta']) {
        const someone = person(claims as Partial<Claims>)
        expect(codeOf(await signIn(someone.sub, provider))).toEqual([403, 'EXTERNAL_EMAIL_NOT_VERIFIED'])
      }
    }
    const someone = person({ email_verified: false })
    await signIn(someone.sub)
    const free = { email: someone.email, password: PASSWORD, fullName: 'Olga Open' }
    expect((await post('/v1/auth/signup', free)).status).toBe(201)
    expect(await identitiesOf(victim.accessToken)).toEqual([])
  })

  test('an address whose account somebody has verified: never linked by it, however it is written', async () => {
    const victim = await gateway.signedInUser()
    for (const email of [victim.email, victim.email.toUpperCase()]) {
      expect(codeOf(await signIn(person({ email }).sub))).toEqual([409, 'EXTERNAL_IDENTITY_NOT_LINKED'])
    }
    expect(await identitiesOf(victim.accessToken)).toEqual([])
    expect((await me(victim.accessToken)).body.hasPassword).toBe(true)
  })

  test('W55: what an attacker registered before is worth nothing once its owner comes by a provider', async () => {
    const olga = person()
    const attacker = await gateway.signUp({ email: olga.email, fullName: 'Mallory Mean' })
    const token = await gateway.mailedToken(attacker.id)
    const { status, body } = await signIn(olga.sub)
    expect([status, body.newUser, body.user.id, body.user.fullName]).toEqual([
      ...[200, true, attacker.id, 'Olga Open'],
    ])
    expect((await me(body.accessToken)).body).toMatchObject({ hasPassword: false, pinSet: false })
    const login = await post('/v1/auth/login', { email: olga.email, password: attacker.password })
    expect(codeOf(login)).toEqual([401, 'INVALID_CREDENTIALS'])
    const verified = await post('/v1/auth/verify-email', { token })
    expect(codeOf(verified)).toEqual([400, 'INVALID_VERIFICATION_TOKEN'])
    const sessions = await gateway.ask('GET', '/v1/sessions', { token: body.accessToken })
    expect(sessions.body.items).toHaveLength(1)
    expect((await eventsOf(attacker.id)).filter(name => name !== 'LoginFailed')).toEqual([
      ...['UserRegistered', 'SignupReplaced', 'EmailVerified', 'ExternalIdentityLinked', 'SessionStarted'],
    ])
  })

  test('while the address is being verified: the first has it, and nothing is mixed', async () => {
    for (let round = 0; round < 5; round++) {
      const olga = person()
      const other = await gateway.signUp({ email: olga.email })
      const token = await gateway.mailedToken(other.id)
      const browser = openBrowser()
      const back = await browser.goThrough('alpha', olga.sub)
      const [verified, signedIn] = await Promise.all([
        post('/v1/auth/verify-email', { token }),
        browser.finish(back),
      ])
      const login = await post('/v1/auth/login', { email: olga.email, password: other.password })
      const outcome = [verified.status, signedIn.status, login.status]
      expect([
        [200, 409, 200],
        [400, 200, 401],
      ]).toContainEqual(outcome)
    }
  })

  test('W54: a disabled account stays shut, linked or not, and its history has the try', async () => {
    const olga = person()
    const { body } = await signIn(olga.sub)
    await setClocks.disableUser(sql, body.user.id)
    expect(codeOf(await signIn(olga.sub))).toEqual([403, 'ACCOUNT_DISABLED'])
    await vi.waitFor(async () => expect(await eventsOf(body.user.id)).toContain('LoginFailed'))

    const shell = await gateway.signUp({ email: person().email })
    await setClocks.disableUser(sql, shell.id)
    const someone = person({ email: shell.email })
    expect(codeOf(await signIn(someone.sub))).toEqual([409, 'EXTERNAL_IDENTITY_NOT_LINKED'])
  })

  test('two of one new person at once make one account, and both are signed in to it', async () => {
    for (const preRegistered of [false, true]) {
      const olga = person()
      if (preRegistered) await gateway.signUp({ email: olga.email })
      const browsers = [openBrowser(), openBrowser(), openBrowser()]
      const backs = await Promise.all(browsers.map(browser => browser.goThrough('alpha', olga.sub)))
      const answers = await Promise.all(browsers.map((browser, index) => browser.finish(backs[index]!)))
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200])
      expect(new Set(answers.map(({ body }) => body.user.id)).size).toBe(1)
      expect(answers.filter(({ body }) => body.newUser)).toHaveLength(1)
      const events = await eventsOf(answers[0]!.body.user.id)
      for (const once of ['UserRegistered', 'EmailVerified', 'ExternalIdentityLinked']) {
        expect(events.filter(name => name === once)).toHaveLength(1)
      }
    }
  })
})

const newCode = (secret: string) => new TOTP({ secret: Secret.fromBase32(secret) }).generate()
/** Turns the second factor on; resolves with the secret. */
const enableSecondFactor = async (user: { id: string; accessToken: string }) => {
  const offer = await post('/v1/auth/2fa/enable', { password: PASSWORD }, user.accessToken)
  const { secret } = offer.body
  expect((await post('/v1/auth/2fa/confirm', { code: newCode(secret) }, user.accessToken)).status).toBe(200)
  await setClocks.forgetCodeStep(sql, user.id)
  return secret as string
}

describe('the second factor', () => {
  test('is asked for all the same, and ends the sign-in', async () => {
    const user = await gateway.signedInUser()
    const olga = person()
    expect((await linkTo(user, olga.sub)).status).toBe(200)
    const secret = await enableSecondFactor(user)
    const { logins } = await countKept(sql, user.id)
    const first = await signIn(olga.sub)
    expect([first.status, first.body]).toEqual([
      200,
      { secondFactorRequired: true, challengeToken: expect.any(String), expiresIn: 300 },
    ])
    expect((await countKept(sql, user.id)).logins).toBe(logins)
    const { challengeToken } = first.body
    const verified = await post('/v1/auth/2fa/verify', { challengeToken, code: newCode(secret) })
    expect([verified.status, verified.body.user.id]).toEqual([200, user.id])

    await setClocks.forgetCodeStep(sql, user.id)
    const back = await signIn(olga.sub, 'alpha', `?returnTo=${encodeURIComponent(RETURN_TO)}`)
    const location = new URL(back.headers.get('location')!)
    expect([back.status, location.origin + location.pathname, location.search]).toEqual([303, RETURN_TO, ''])
    expect(back.headers.getSetCookie()).toEqual([])
    const token = new URLSearchParams(location.hash.slice(1)).get('challengeToken')!
    const second = await post('/v1/auth/2fa/verify', { challengeToken: token, code: newCode(secret) })
    expect(second.status).toBe(200)
  })
})

describe('linking', () => {
  test('by the signed-in user, with the password; told by event and mail; signs in from then on', async () => {
    const user = await gateway.signedInUser()
    const olga = person()
    const browser = openBrowser()
    expect(codeOf(await browser.beginLink(user, { password: 'Wrong-Horse-7' }))).toEqual([
      ...[400, 'PASSWORD_MISMATCH'],
    ])
    const linked = await linkTo(user, olga.sub)
    expect([linked.status, linked.body.linked]).toMatchObject([
      200,
      { issuer: alpha.issuer, subject: olga.sub, id: expect.any(String) },
    ])
    expect(await eventsOf(user.id)).toContain('ExternalIdentityLinked')
    expect(await gateway.mailedSecret(user.id)).toEqual({})
    // The identity's address differs from the account's and does not replace it.
    const { body } = await signIn(olga.sub)
    expect([body.user.id, body.user.email, body.newUser]).toEqual([user.id, user.email, false])

    const returning = openBrowser()
    const input = await returning.beginLink(user, { returnTo: RETURN_TO, provider: 'beta' })
    const back = await returning.finish(await passProvider(input.body.authorizationUrl, olga.sub))
    expect(back.headers.get('location')).toMatch(new RegExp(`^${RETURN_TO}#linked=[0-9a-f-]{36}$`))
    expect(await identitiesOf(user.accessToken)).toHaveLength(2)
  })

  test('an identity of another account, or already one’s own', async () => {
    const user = await gateway.signedInUser()
    const olga = person()
    const { body: other } = await signIn(olga.sub)
    expect(codeOf(await linkTo(user, olga.sub))).toEqual([409, 'EXTERNAL_IDENTITY_TAKEN'])
    expect((await signIn(olga.sub)).body.user.id).toBe(other.user.id)
    const mine = person()
    expect((await linkTo(user, mine.sub)).status).toBe(200)
    expect(codeOf(await linkTo(user, mine.sub))).toEqual([409, 'EXTERNAL_IDENTITY_TAKEN'])
  })

  test('only by the browser that asked: a victim who is sent there links nothing to the attacker', async () => {
    const attacker = await gateway.signedInUser()
    const { body } = await openBrowser().beginLink(attacker, {})
    const victim = openBrowser()
    await victim.begin('alpha')
    const back = await passProvider(body.authorizationUrl, person().sub)
    expect(codeOf(await victim.finish(back))).toEqual([400, 'OIDC_STATE_INVALID'])
    expect(await identitiesOf(attacker.accessToken)).toEqual([])
  })

  test('only while the session that asked is open; another one of the same user does not stand in', async () => {
    const user = await gateway.signedInUser()
    const other = await gateway.logIn(user)
    const olga = person()
    const browser = openBrowser()
    const { body } = await browser.beginLink(user, {})
    const back = await passProvider(body.authorizationUrl, olga.sub)
    await post('/v1/auth/logout', {}, user.accessToken)
    expect(codeOf(await browser.finish(back))).toEqual([400, 'OIDC_STATE_INVALID'])
    expect(await identitiesOf(other.accessToken)).toEqual([])
    expect((await me(other.accessToken)).status).toBe(200)
  })
})

describe('an account without a password', () => {
  const newcomer = async () => {
    const olga = person()
    const { body } = await signIn(olga.sub)
    return { ...olga, id: body.user.id as string, accessToken: body.accessToken as string }
  }

  test('no password signs in to it, and none is asked for with another answer than NO_PASSWORD', async () => {
    const { email, accessToken } = await newcomer()
    for (const password of [PASSWORD, '', 'null']) {
      expect(codeOf(await post('/v1/auth/login', { email, password }))).toEqual([401, 'INVALID_CREDENTIALS'])
    }
    const asks: Array<[string, object]> = [
      ['/v1/auth/change-password', { currentPassword: '', newPassword: NEXT }],
      ['/v1/auth/2fa/enable', { password: PASSWORD }],
      ['/v1/auth/2fa/disable', { password: PASSWORD, code: '123456' }],
      ['/v1/auth/2fa/recovery-codes', { password: PASSWORD, code: '123456' }],
      ['/v1/users/me/deactivate', { password: PASSWORD }],
      ['/v1/users/me/external-identities', { password: PASSWORD, token: 'abc' }],
      ['/v1/api-keys', { password: PASSWORD, name: 'Shop', scopes: ['transfers:read'] }],
      ['/v1/users/me/external-identities/oidc', { password: PASSWORD, provider: 'beta' }],
    ]
    for (const [path, body] of asks) {
      expect([path, ...codeOf(await post(path, body, accessToken))]).toEqual([path, 400, 'NO_PASSWORD'])
    }
  })

  test('a wrong password costs a hash there as anywhere, so that nobody learns who has one', async () => {
    const { email } = await newcomer()
    const hashes = async (address: string) => {
      const before = await hashesSoFar()
      await post('/v1/auth/login', { email: address, password: PASSWORD })
      return (await hashesSoFar()) - before
    }
    expect([await hashes(email), await hashes('nobody@example.com')]).toEqual([1, 1])
  })

  test('forgot and reset give it one, which then works', async () => {
    const { id, email, sub, accessToken } = await newcomer()
    await post('/v1/auth/forgot-password', { email })
    const token = await vi.waitFor(async () => {
      const mailed = await gateway.mailedToken(id)
      expect(mailed).toBeDefined()
      return mailed
    })
    expect((await post('/v1/auth/reset-password', { token, password: NEXT })).status).toBe(200)
    expect(codeOf(await me(accessToken))).toEqual([401, 'TOKEN_REVOKED'])
    const login = await post('/v1/auth/login', { email, password: NEXT })
    expect((await me(login.body.accessToken)).body.hasPassword).toBe(true)
    // Both sign-in methods work, so the identity can be unlinked.
    expect((await signIn(sub)).body.user.id).toBe(id)
    const [link] = await identitiesOf(login.body.accessToken)
    const path = `/v1/users/me/external-identities/${link.id}`
    expect((await gateway.ask('DELETE', path, { token: login.body.accessToken })).status).toBe(200)
  })

  test('its last identity stays; of two that go at once, one does', async () => {
    const { id, accessToken } = await newcomer()
    const unlink = (link: { id: string }) =>
      gateway.ask('DELETE', `/v1/users/me/external-identities/${link.id}`, { token: accessToken })
    const [only] = await identitiesOf(accessToken)
    expect(codeOf(await unlink(only))).toEqual([409, 'LAST_SIGN_IN_METHOD'])
    expect(await identitiesOf(accessToken)).toEqual([only])
    expect(await eventsOf(id)).not.toContain('ExternalIdentityUnlinked')

    await linkIdentity(sql, id)
    const both = await identitiesOf(accessToken)
    const answers = await Promise.all(both.map(unlink))
    expect(answers.map(codeOf).sort()).toEqual([
      [200, undefined],
      [409, 'LAST_SIGN_IN_METHOD'],
    ])
    expect(await identitiesOf(accessToken)).toHaveLength(1)
  })
})

const hashesSoFar = async (): Promise<number> => {
  const text = await metricsText()
  return Number(/^pennywire_gateway_slow_hashes_total\{of="password"\} (\d+)$/m.exec(text)![1])
}

test('requests that nobody came back from are purged', async () => {
  const purging = await openGateway({ PURGE_SECONDS: '0.1' })
  await openBrowser().begin('alpha')
  expect(await countOidcRequests(sql)).toBeGreaterThan(0)
  await setClocks.ageOidcRequests(owner)
  await vi.waitFor(async () => expect(await countOidcRequests(sql)).toBe(0))
  purging.stop()
})

test('W60: no code, state, verifier, nonce, cookie, secret or token is in a log line, table, record or error', async () => {
  const user = await gateway.signedInUser()
  const olga = person()
  expect((await linkTo(user, olga.sub)).status).toBe(200)
  const unfinished = openBrowser()
  const { headers } = await unfinished.begin('alpha')
  const browser = openBrowser()
  const { headers: begun } = await browser.begin('alpha')
  const authorizationUrl = new URL(begun.get('location')!)
  const back = await passProvider(authorizationUrl.href, olga.sub)
  const signedIn = await browser.finish(back)
  expect(signedIn.status).toBe(200)
  const { params, answered } = alpha.exchanges.at(-1)!
  const errors = [
    await browser.finish(back),
    await openBrowser().finish(back),
    await signIn(olga.sub, 'stranger'),
    await (async () => {
      const wrong = await browser.goThrough('alpha', olga.sub)
      wrong.searchParams.set('code', `${back.searchParams.get('code')}x`)
      return browser.finish(wrong)
    })(),
  ]
  expect(errors.every(({ status }) => status >= 400)).toBe(true)
  await enableSecondFactor(user)
  const challenge = await signIn(olga.sub, 'alpha', `?returnTo=${encodeURIComponent(RETURN_TO)}`)

  const pending = new URL(headers.get('location')!).searchParams
  const canaries = {
    code: back.searchParams.get('code'),
    state: back.searchParams.get('state'),
    pendingState: pending.get('state'),
    pendingNonce: pending.get('nonce'),
    nonce: authorizationUrl.searchParams.get('nonce'),
    challenge: authorizationUrl.searchParams.get('code_challenge'),
    verifier: params.code_verifier,
    cookie: browser.cookie()!.split('=')[1],
    pendingCookie: unfinished.cookie()!.split('=')[1],
    clientSecret: CLIENT.clientSecret,
    idToken: answered.id_token,
    providerToken: answered.access_token,
    refreshToken: signedIn.body.refreshToken,
    accessToken: signedIn.body.accessToken,
    challengeToken: new URLSearchParams(new URL(challenge.headers.get('location')!).hash.slice(1)).get(
      'challengeToken',
    ),
    address: olga.email,
  }
  const records = await decodeOutbox(sql, gateway.codec)
  const haystack = [
    gateway.logLines.join('\n'),
    await dumpTables(sql),
    records
      .map(record =>
        JSON.stringify(record, (_key, value) => (typeof value === 'bigint' ? String(value) : value)),
      )
      .join('\n'),
    errors.map(({ text }) => text).join('\n'),
  ].join('\n')
  for (const [what, secret] of Object.entries(canaries)) {
    expect([what, typeof secret]).toEqual([what, 'string'])
    expect([what, haystack.includes(secret as string)]).toEqual([what, false])
  }
})
