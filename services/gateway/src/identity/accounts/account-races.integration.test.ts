// Races every operation that changes access to an account against the others: on several gateways at once, in the
// harmful order.
import { randomBytes, randomUUID } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Database } from '@pennywire/runtime/database.ts'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { Secret, TOTP } from 'otpauth'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import {
  createGatewayDatabase,
  decodeOutbox,
  holdUser,
  readLive,
  setClocks,
} from '../../sql/test-database.ts'
import { createTestGateway, createTestKeys, type TestGateway, type TestKeys } from '../../test-gateway.ts'
import { insertMailedToken } from '../persons/sql/users.ts'
import { sha256 } from '../sessions/sessions.ts'
import { passProvider, startOidcProvider } from '../sign-in/test-oidc-provider.ts'

const { superuserUrl, redisUrl } = inject('stack')

const PASSWORD = 'Correct-Horse-7'
const NEXT = 'Battery-Staple-8'
const PINS = ['482915', '730164']
const ISSUER = 'https://sso.example'
const CLIENT = { clientId: 'pennywire', clientSecret: 'known-to-both-sides' }

type User = Awaited<ReturnType<TestGateway['signedInUser']>>
type Answer = Awaited<ReturnType<TestGateway['ask']>>

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
let gateway: TestGateway
let other: TestGateway
let root: User
let jwks: Server
let companyKey: JWK
let provider: Awaited<ReturnType<typeof startOidcProvider>>

beforeAll(async () => {
  const pair = await generateKeyPair('RS256', { extractable: true })
  companyKey = { ...(await exportJWK(pair.privateKey)), kid: 'sso-1', alg: 'RS256' }
  const { kty, n, e, kid, alg } = companyKey
  jwks = createServer((_request, response) => {
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ keys: [{ kty, n, e, kid, alg }] }))
  })
  await new Promise<void>(resolve => jwks.listen(0, '127.0.0.1', resolve))
  const jwksUrl = `http://127.0.0.1:${(jwks.address() as AddressInfo).port}/jwks.json`
  provider = await startOidcProvider({
    ...CLIENT,
    redirectUris: ['http://pennywire.test/v1/auth/oidc/alpha/callback'],
    inIdToken: true,
  })
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  keys = await createTestKeys()
  const env = {
    BOOTSTRAP_ADMIN_EMAIL: 'root@example.com',
    OIDC_PROVIDERS_FILE: keys.file('oidc.json', {
      providers: [{ name: 'alpha', label: 'Alpha', issuer: provider.issuer, ...CLIENT }],
    }),
    TRUSTED_ISSUERS: JSON.stringify([{ issuer: ISSUER, jwksUrl, audience: 'pennywire' }]),
  }
  const open = () => createTestGateway({ sql, databaseUrl: database.url, redisUrl, keys, env })
  ;[gateway, other] = await Promise.all([open(), open()])
  await vi.waitFor(() => Promise.all([gateway.identity.check(), other.identity.check()]))
  root = await gateway.signedInStaff({ email: 'root@example.com' })
})

afterAll(async () => {
  gateway.stop()
  other.stop()
  jwks.close()
  provider.stop()
  keys.remove()
  await sql.end()
  await database.drop()
})

const codeOf = ({ status, body }: { status: number; body: { code?: string } }) => [status, body?.code]
const post = (path: string, body: object | undefined, token?: string, through = gateway) =>
  through.ask('POST', path, { ...(body ? { body } : {}), ...(token === undefined ? {} : { token }) })
const remove = (path: string, token: string, body?: object, through = gateway) =>
  through.ask('DELETE', path, { token, ...(body ? { body } : {}) })
const newCode = (secret: string) => new TOTP({ secret: Secret.fromBase32(secret) }).generate()
const externalToken = (subject: string) =>
  new SignJWT({})
    .setProtectedHeader({ alg: 'RS256', kid: 'sso-1' })
    .setIssuer(ISSUER)
    .setAudience('pennywire')
    .setSubject(subject)
    .setIssuedAt()
    .setExpirationTime('5m')
    .sign({ ...companyKey, alg: 'RS256' } as never)
const link = async (user: User, password = PASSWORD, subject = user.id) =>
  post(
    '/v1/users/me/external-identities',
    { token: await externalToken(subject), password },
    user.accessToken,
  )
const signInBy = async (subject: string, through = gateway) =>
  post('/v1/auth/external', { token: await externalToken(subject) }, undefined, through)
const identitiesOf = async (token: string): Promise<Array<{ id: string }>> =>
  (await gateway.ask('GET', '/v1/users/me/external-identities', { token })).body.items
const enableSecondFactor = async (user: User) => {
  const { body } = await post('/v1/auth/2fa/enable', { password: PASSWORD }, user.accessToken)
  const { status } = await post('/v1/auth/2fa/confirm', { code: newCode(body.secret) }, user.accessToken)
  expect(status).toBe(200)
  await setClocks.forgetCodeStep(sql, user.id)
  return body.secret as string
}
/** A link for a new password, as if it had come by mail. */
const resetToken = async (userId: string) => {
  const token = randomBytes(32).toString('base64url')
  const expiresAt = new Date(Date.now() + 60_000)
  await sql.begin(tx =>
    insertMailedToken(tx, { hash: sha256(token), userId, purpose: 'reset_password', expiresAt }),
  )
  return token
}
/** Passes the provider's pages; resolves with a function that sends the callback. */
const goThrough = async (begun: Answer, url: string, sub: string) => {
  const cookie = begun.headers.getSetCookie()[0]!.split(';')[0]!
  const { pathname, search } = await passProvider(url, sub)
  return (through = gateway) => through.ask('GET', `${pathname}${search}`, { headers: { cookie } })
}
const atProvider = (email: string) => {
  provider.people.set(email, { sub: email, email, email_verified: true, name: 'Olga Open' })
  return email
}
const goToProvider = async (email: string) => {
  const begun = await gateway.ask('GET', '/v1/auth/oidc/alpha')
  return goThrough(begun, begun.headers.get('location')!, atProvider(email))
}
const beginLink = async (user: User) => {
  const begun = await post(
    '/v1/users/me/external-identities/oidc',
    { provider: 'alpha', password: PASSWORD },
    user.accessToken,
  )
  return goThrough(begun, begun.body.authorizationUrl, atProvider(`${randomUUID()}@example.com`))
}

/** Starts the requests in order, each once the previous one waits for the user's lock, and then releases the lock. */
const inOrder = async (userId: string, requests: Array<() => Promise<Answer>>): Promise<Answer[]> => {
  const held = await holdUser(sql, userId)
  const answers: Array<Promise<Answer>> = []
  for (const request of requests) {
    answers.push(request())
    await vi.waitFor(async () => expect(await held.waiting()).toBe(answers.length))
  }
  await held.release()
  return Promise.all(answers)
}

describe('what was allowed with the old password is not done after it has changed', () => {
  test('a link by token', async () => {
    const user = await gateway.signedInUser()
    const token = await resetToken(user.id)
    const [reset, linked] = await inOrder(user.id, [
      () => post('/v1/auth/reset-password', { token, password: NEXT }),
      () => link(user),
    ])
    expect([codeOf(reset!), codeOf(linked!)]).toEqual([
      [200, undefined],
      [400, 'PASSWORD_MISMATCH'],
    ])
    expect(codeOf(await signInBy(user.id))).toEqual([403, 'EXTERNAL_IDENTITY_UNKNOWN'])
  })

  test('a link at a provider, although the session goes on', async () => {
    const user = await gateway.signedInUser()
    const callback = await beginLink(user)
    const passwords = { currentPassword: PASSWORD, newPassword: NEXT }
    expect((await post('/v1/auth/change-password', passwords, user.accessToken)).status).toBe(200)
    expect(codeOf(await callback())).toEqual([400, 'OIDC_STATE_INVALID'])
    expect(await identitiesOf(user.accessToken)).toEqual([])
  })
})

test('a link at a provider and the end of the account do not wait for each other', async () => {
  const user = await gateway.signedInUser()
  const callback = await beginLink(user)
  const [ended, linked] = await inOrder(user.id, [
    () => post('/v1/users/me/deactivate', { password: PASSWORD }, user.accessToken),
    () => callback(),
  ])
  expect([codeOf(ended!), codeOf(linked!)]).toEqual([
    [200, undefined],
    [400, 'OIDC_STATE_INVALID'],
  ])
})

test('each end of sessions locks the user first, so that no two wait for each other with a session locked', async () => {
  const user = await gateway.signedInUser()
  const [second, third] = [await gateway.logIn(user), await gateway.logIn(user)]
  const answers = await inOrder(user.id, [
    () => post('/v1/auth/logout', undefined, second.accessToken),
    () => other.ask('DELETE', `/v1/admin/users/${user.id}/sessions`, { token: root.accessToken }),
    () => post('/v1/auth/logout-all', undefined, third.accessToken, other),
  ])
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200])
  expect((await readLive(sql, user.id)).sessions).toEqual([])
})

test('a session that has just ended turns no second factor on', async () => {
  const user = await gateway.signedInUser()
  const { body } = await post('/v1/auth/2fa/enable', { password: PASSWORD }, user.accessToken)
  const token = await resetToken(user.id)
  const [reset, confirmed] = await inOrder(user.id, [
    () => post('/v1/auth/reset-password', { token, password: NEXT }),
    () => post('/v1/auth/2fa/confirm', { code: newCode(body.secret) }, user.accessToken),
  ])
  expect([codeOf(reset!), codeOf(confirmed!)]).toEqual([
    [200, undefined],
    [401, 'TOKEN_REVOKED'],
  ])
  const login = await post('/v1/auth/login', { email: user.email, password: NEXT })
  expect(login.body.secondFactorRequired).toBeUndefined()
})

describe('an identity that is unlinked', () => {
  const linkedUser = async () => {
    const user = await gateway.signedInUser()
    const { body } = await link(user)
    return { ...user, path: `/v1/users/me/external-identities/${body.id}` }
  }

  test('leaves no session behind, however it was started; the owner hears of it', async () => {
    const user = await linkedUser()
    const { body } = await signInBy(user.id)
    expect((await remove(user.path, user.accessToken)).status).toBe(200)
    for (const through of [gateway, other]) {
      const me = (token: string) => through.ask('GET', '/v1/users/me', { token })
      expect(codeOf(await me(body.accessToken))).toEqual([401, 'TOKEN_REVOKED'])
      expect((await me(user.accessToken)).status).toBe(200)
    }
    const mails = (await decodeOutbox(sql, gateway.codec)).flatMap(record =>
      record.type === 'pennywire.notifier.MailRequested' && record.key === user.id
        ? [record.value.template]
        : [],
    )
    expect(mails.slice(-2)).toEqual(['external_identity_linked', 'external_identity_unlinked'])
  })

  test('ends no sign-in that it began', async () => {
    const user = await linkedUser()
    const [unlinked, signedIn] = await inOrder(user.id, [
      () => remove(user.path, user.accessToken),
      () => signInBy(user.id, other),
    ])
    expect([codeOf(unlinked!), codeOf(signedIn!)]).toEqual([
      [200, undefined],
      [503, 'SERVICE_UNAVAILABLE'],
    ])
  })

  test('nor one that waits for its second step', async () => {
    const user = await linkedUser()
    const secret = await enableSecondFactor(user)
    const { body } = await signInBy(user.id)
    expect((await remove(user.path, user.accessToken)).status).toBe(200)
    const proof = { challengeToken: body.challengeToken, code: newCode(secret) }
    expect(codeOf(await post('/v1/auth/2fa/verify', proof))).toEqual([401, 'CHALLENGE_INVALID'])
  })
})

describe('everything at once, on two gateways', () => {
  /** Each open session must have started after the last of these events, except the session that caused it. */
  const ENDS_OTHERS = [
    'PasswordChanged',
    'SecondFactorEnabled',
    'SecondFactorDisabled',
    'ExternalIdentityUnlinked',
  ]
  const ENDS_ALL = ['AccountDeactivated', 'RoleChanged']

  /** Replays a user's events in order; returns the open sessions. Throws if one of them must have ended. */
  const replay = (
    events: Array<{
      name: string
      sessionId?: string
      how?: string
      byUserId?: string | null
      userId: string
    }>,
  ) => {
    const open = new Map<string, number>()
    let ender = { name: '', at: -1, spared: 0 }
    for (const [at, event] of events.entries()) {
      const { name, userId, sessionId, how, byUserId = userId } = event
      if (name === 'SessionStarted') open.set(sessionId!, at)
      if (name === 'SessionRevoked') open.delete(sessionId!)
      const isOwn = how !== 'reset' && byUserId === userId
      if (ENDS_ALL.includes(name)) ender = { name, at, spared: 0 }
      if (ENDS_OTHERS.includes(name)) ender = { name, at, spared: isOwn ? 1 : 0 }
    }
    const older = [...open.values()].filter(at => at < ender.at).length
    expect([ender, older <= ender.spared]).toEqual([ender, true])
    return [...open.keys()].sort()
  }

  test('no deadlock, nothing but refusals, and nothing left open that something has ended', async () => {
    const people = await Promise.all(Array.from({ length: 3 }, () => gateway.signedInUser()))
    for (const user of people) await link(user)
    const sessions = new Map<string, Array<{ accessToken: string; refreshToken: string }>>()
    for (const user of people) sessions.set(user.id, [user])
    const shells = await Promise.all(
      Array.from({ length: 6 }, async () => {
        const shell = await gateway.signUp()
        return {
          ...shell,
          token: await gateway.mailedToken(shell.id),
          callbacks: await Promise.all([goToProvider(shell.email), goToProvider(shell.email)]),
        }
      }),
    )
    for (const { id } of shells) await setClocks.ageSignup(sql, id)

    const answers: Array<[what: string, answer: Answer]> = []
    let state = 6
    /** Draws in the same order each time; the outcome depends on timing. */
    const draw = <Item>(items: Item[]): Item => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      return items[Math.floor((state / 2 ** 32) * items.length)]!
    }
    const keep = (user: User, answer: Answer) => {
      if (answer.status === 200 && answer.body.accessToken) sessions.get(user.id)!.push(answer.body)
      return answer
    }
    type Act = (user: User, through: TestGateway, token: string) => Promise<Answer>
    const password = () => draw([PASSWORD, PASSWORD, NEXT])
    const newPin = () => draw(PINS)
    const asRoot = (
      method: string,
      path: string,
      body: object | undefined,
      user: User,
      through: TestGateway,
    ) =>
      through.ask(method, `/v1/admin/users/${user.id}/${path}`, {
        token: root.accessToken,
        ...(body ? { body } : {}),
      })
    const recovery = new Map<string, string[]>()
    const acts: Array<[string, Act]> = [
      ...Array.from({ length: 6 }, (): [string, Act] => [
        'login',
        async (user, through) =>
          keep(
            user,
            await post('/v1/auth/login', { email: user.email, password: password() }, undefined, through),
          ),
      ]),
      [
        'second step',
        async (user, through) => {
          const first = await post(
            '/v1/auth/login',
            { email: user.email, password: password() },
            undefined,
            through,
          )
          if (!first.body.challengeToken) return keep(user, first)
          const recoveryCode = recovery.get(user.id)?.pop() ?? 'none'
          const { challengeToken } = first.body
          return keep(
            user,
            await post('/v1/auth/2fa/verify', { challengeToken, recoveryCode }, undefined, through),
          )
        },
      ],
      ['external sign-in', async (user, through) => keep(user, await signInBy(user.id, through))],
      [
        'refresh',
        async (user, through) => {
          const { refreshToken } = draw(sessions.get(user.id)!)
          return keep(user, await post('/v1/auth/refresh', { refreshToken }, undefined, through))
        },
      ],
      [
        'reset',
        async (user, through) =>
          post(
            '/v1/auth/reset-password',
            { token: await resetToken(user.id), password: password() },
            undefined,
            through,
          ),
      ],
      [
        'forgot',
        (user, through) => post('/v1/auth/forgot-password', { email: user.email }, undefined, through),
      ],
      [
        'change',
        (_user, through, token) =>
          post(
            '/v1/auth/change-password',
            { currentPassword: password(), newPassword: password() },
            token,
            through,
          ),
      ],
      [
        'log out everywhere',
        (_user, through, token) => post('/v1/auth/logout-all', undefined, token, through),
      ],
      [
        'deactivate',
        (_user, through, token) => post('/v1/users/me/deactivate', { password: password() }, token, through),
      ],
      ['disable', (user, through) => asRoot('POST', 'deactivate', { reason: 'a test' }, user, through)],
      ...Array.from({ length: 3 }, (): [string, Act] => [
        'enable',
        (user, through) => asRoot('POST', 'reactivate', { reason: 'a test' }, user, through),
      ]),
      [
        'role',
        (user, through) => asRoot('PATCH', 'role', { role: draw(['user', 'moderator']) }, user, through),
      ],
      ['staff end sessions', (user, through) => asRoot('DELETE', 'sessions', undefined, user, through)],
      [
        'staff remove 2FA',
        (user, through) => asRoot('DELETE', 'second-factor', { reason: 'a test' }, user, through),
      ],
      [
        '2FA on',
        async (user, through, token) => {
          const offer = await post('/v1/auth/2fa/enable', { password: password() }, token, through)
          if (offer.status !== 200) return offer
          const answer = await post(
            '/v1/auth/2fa/confirm',
            { code: newCode(offer.body.secret) },
            token,
            through,
          )
          if (answer.status === 200) recovery.set(user.id, answer.body.recoveryCodes)
          return answer
        },
      ],
      [
        '2FA off',
        (user, through, token) => {
          const proof = { password: password(), recoveryCode: recovery.get(user.id)?.pop() ?? 'none' }
          return post('/v1/auth/2fa/disable', proof, token, through)
        },
      ],
      [
        'link',
        async (user, through, token) => {
          const body = { token: await externalToken(user.id), password: password() }
          return post('/v1/users/me/external-identities', body, token, through)
        },
      ],
      [
        'unlink',
        async (_user, through, token) => {
          const [first] = (await identitiesOf(token)) ?? []
          return remove(
            `/v1/users/me/external-identities/${first?.id ?? randomUUID()}`,
            token,
            undefined,
            through,
          )
        },
      ],
      ...Array.from({ length: 2 }, (): [string, Act] => [
        'API key',
        (_user, through, token) =>
          post(
            '/v1/api-keys',
            { name: 'Shop', scopes: ['wallets:read'], password: password() },
            token,
            through,
          ),
      ]),
      ['PIN', (_user, through, token) => post('/v1/pin', { pin: newPin() }, token, through)],
      ['PIN try', (_user, through, token) => post('/v1/pin/verify', { pin: newPin() }, token, through)],
      [
        'PIN change',
        (_user, through, token) =>
          post('/v1/pin/change', { currentPin: PINS[0], newPin: PINS[1] }, token, through),
      ],
    ]
    const worker = async () => {
      for (let i = 0; i < 90; i++) {
        const [what, act] = draw(acts)
        const user = draw(people)
        const through = draw([gateway, other])
        const known = sessions.get(user.id)!
        const { accessToken } = known.at(draw([-1, -1, -2])) ?? known[0]!
        answers.push([what, await act(user, through, accessToken)])
      }
    }
    const overShells = shells.flatMap(({ email, token, callbacks }) => [
      async () =>
        answers.push([
          'verify',
          await post('/v1/auth/verify-email', { token }, undefined, draw([gateway, other])),
        ]),
      async () =>
        answers.push([
          'replace',
          await post('/v1/auth/signup', { email, password: NEXT, fullName: 'Somebody Else' }),
        ]),
      ...callbacks.map(
        callback => async () => answers.push(['callback', await callback(draw([gateway, other]))]),
      ),
    ])
    await Promise.all([...Array.from({ length: 10 }, worker), ...overShells.map(act => act())])

    const failed = answers.filter(
      ([, { status, body }]) => status >= 500 && body.code !== 'SERVICE_UNAVAILABLE',
    )
    expect(failed.map(([what, { text }]) => [what, text])).toEqual([])
    const errors = [gateway, other].flatMap(({ logLines }) =>
      logLines.filter(line => /"level":"?(error|50)|40P01/.test(line)),
    )
    expect(errors).toEqual([])
    // Most operations succeeded at least once.
    const done = new Set(answers.filter(([, { status }]) => status < 300).map(([what]) => what))
    expect(done.size).toBeGreaterThan(15)

    const records = await decodeOutbox(sql, gateway.codec)
    const events = records.filter(({ topic }) => topic === 'identity.events')
    for (const { id } of [...people, ...shells]) {
      const live = await readLive(sql, id)
      const told = replay(
        events
          .filter(({ key }) => key === id)
          .map(({ type, value }) => ({ ...(value as { userId: string }), name: type.split('.').at(-1)! })),
      )
      expect(told).toEqual(live.sessions.sort())
      if (live.disabled) expect([live.sessions, live.keys]).toEqual([[], 0])
      for (const { accessToken } of sessions.get(id) ?? []) {
        const { sid } = JSON.parse(Buffer.from(accessToken.split('.')[1]!, 'base64url').toString())
        for (const through of [gateway, other]) {
          const { status } = await through.ask('GET', '/v1/users/me', { token: accessToken })
          expect([sid, status === 200]).toEqual([sid, live.sessions.includes(sid)])
        }
      }
    }
    // Either the verifying user or the provider's user has the account: at most one password works.
    for (const { email, password: typed } of shells) {
      const logins = await Promise.all(
        [typed, NEXT].map(one => post('/v1/auth/login', { email, password: one })),
      )
      expect(logins.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(1)
    }
  })
})
