// Every route of the API document, requested by every kind of caller, on their own objects and on another user's. The
// expected result follows from the document (the role) and from one rule of ownership. A route whose path parameter
// is missing from PARAMETERS fails the test.
import { randomUUID } from 'node:crypto'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { beforeAll, expect, inject, test, vi } from 'vitest'
import {
  type Answer,
  ask,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  readText,
  type Staff,
  send,
  type Wallet,
} from './client.ts'

const ROLES = ['user', 'moderator', 'admin', 'super_admin'] as const
type Role = (typeof ROLES)[number]

/** The objects of one person, as paths and bodies name them. */
type Objects = {
  user: string
  wallet: string
  walletCode: string
  transfer: string
  reference: string
  key: string
  /** A hold of which the person is the recipient, because only the recipient may capture it. */
  hold: string
  session: string
  notification: string
  webhook: string
  /** To that webhook. */
  delivery: string
  identity: string
  apiKey: string
}

/** The kind of object that a path's parameter names. */
const PARAMETERS: Array<[path: RegExp, kind: keyof Objects | 'action' | 'recipient']> = [
  [/^\/v1\/admin\/users\/\{id\}/, 'user'],
  [/^\/v1\/(admin\/)?wallets\/\{id\}/, 'wallet'],
  [/^\/v1\/(admin\/)?transfers\/\{id\}/, 'transfer'],
  [/^\/v1\/(admin\/)?holds\/\{id\}/, 'hold'],
  [/^\/v1\/transfers\/by-reference\/\{reference\}/, 'reference'],
  [/^\/v1\/transfers\/by-idempotency-key\/\{key\}/, 'key'],
  [/^\/v1\/sessions\/\{id\}/, 'session'],
  [/^\/v1\/notifications\/\{id\}/, 'notification'],
  [/^\/v1\/webhooks\/\{id\}/, 'webhook'],
  // The operator's are no person's: each admin may have any.
  [/^\/v1\/admin\/webhooks\/\{id\}/, 'action'],
  [/^\/v1\/users\/me\/external-identities\/\{id\}/, 'identity'],
  [/^\/v1\/api-keys\/\{id\}/, 'apiKey'],
  [/^\/v1\/limits\/\{action\}/, 'action'],
  [/^\/v1\/auth\/oidc\/\{provider\}/, 'action'],
  [/^\/v1\/recipients\/\{walletCode\}/, 'recipient'],
]

/** All people of the tests have one password. */
const HOOK = { url: 'http://127.0.0.1:9/hook', password: 'Correct-horse-9' }
const money = (to: string) => ({ toWalletId: to, amount: '0.01', currency: 'USD' })
/** Valid bodies, for routes that would refuse an empty one before the access check. `others` is a stranger's wallet. */
const BODIES: Record<string, (objects: Objects, others: string) => object> = {
  'POST /v1/transfers': ({ wallet }, others) => ({ fromWalletId: wallet, ...money(others) }),
  'POST /v1/transfers/preview': ({ wallet }, others) => ({ fromWalletId: wallet, ...money(others) }),
  'POST /v1/holds': ({ wallet }, others) => ({ fromWalletId: wallet, ...money(others) }),
  'POST /v1/deposits': ({ wallet }) => ({ walletId: wallet, amount: '0.01', currency: 'USD' }),
  'POST /v1/withdrawals': ({ wallet }) => ({
    ...{ walletId: wallet, amount: '0.01', currency: 'USD', destination: 'DE02 1203' },
  }),
  'PATCH /v1/wallets/{id}': () => ({ label: 'Rent' }),
  'PATCH /v1/limits/{action}': ({ wallet }) => ({ walletId: wallet, daily: '100' }),
  'PUT /v1/limits/{action}': ({ wallet }) => ({ walletId: wallet, daily: '100' }),
  'PUT /v1/admin/wallets/{id}/limits/{action}': () => ({ daily: '100' }),
  'POST /v1/admin/wallets/{id}/freeze': () => ({ reason: 'a test' }),
  'POST /v1/admin/transfers/{id}/reversals': () => ({ amount: '0.01', currency: 'USD', reason: 'a test' }),
  'POST /v1/admin/users/{id}/deactivate': () => ({ reason: 'a test' }),
  'POST /v1/admin/users/{id}/erasure': () => ({ reason: 'a test' }),
  'DELETE /v1/admin/users/{id}/second-factor': () => ({ reason: 'a test' }),
  'PATCH /v1/admin/users/{id}/role': () => ({ role: 'user' }),
  'POST /v1/admin/users/{id}/webhooks/{webhookId}/disable': () => ({ reason: 'a test' }),
  'POST /v1/webhooks': () => HOOK,
  'POST /v1/webhooks/{id}/rotate-secret': () => ({ password: HOOK.password }),
  'POST /v1/webhooks/{id}/redrive': () => ({ from: '2026-01-01T00:00:00Z', to: '2026-01-02T00:00:00Z' }),
  // All people of the tests have the same password.
  'POST /v1/api-keys/{id}/rotate': () => ({ password: victim.person.password }),
}
/** Queries that name an object, or that the route requires. */
const QUERIES: Record<string, (objects: Objects) => string> = {
  'GET /v1/limits': ({ wallet }) => `walletId=${wallet}`,
  'DELETE /v1/limits/{action}': ({ wallet }) => `walletId=${wallet}`,
  'GET /v1/wallets/{id}/statement': () => 'from=2026-01-01&to=2026-01-02',
}
/** Routes whose object is named only by the body or query. */
const NAMED_OTHERWISE = new Set([
  ...['POST /v1/transfers', 'POST /v1/transfers/preview', 'POST /v1/holds', 'POST /v1/deposits'],
  ...['POST /v1/withdrawals', 'GET /v1/limits'],
  ...['PATCH /v1/limits/{action}', 'PUT /v1/limits/{action}', 'DELETE /v1/limits/{action}'],
])
/** Routes that end the caller's session, so each is requested in a session of its own. */
const ENDS_SESSION = new Set(['POST /v1/auth/logout', 'POST /v1/auth/logout-all'])
/** Requested last, in this order: a frozen, closed or deleted object would hide the access decision of later routes. */
const LATE = [/freeze$/, /^DELETE /, /deactivate$/]

type Route = {
  name: string
  method: string
  path: string
  secured: boolean
  role: Role | undefined
  scope: string | undefined
}
/** A signed-in person, or an API key of that person. */
type Caller = { person: Person; own: Objects; apiKey?: string }

const PIN = '482915'
const SCOPES = [
  ...['wallets:read', 'transfers:read', 'transfers:write', 'holds:capture'],
  ...['deposits:write', 'withdrawals:write'],
]

let routes: Route[]
let victim: { person: Person; objects: Objects; spare: Wallet }
const callers = {} as Record<Role, Caller>

const linkIdentity = async (userId: string): Promise<string> => {
  const sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test' })
  const id = randomUUID()
  await sql`
    insert into gateway.external_identities (id, user_id, issuer, subject)
    values (${id}, ${userId}, 'https://sso.example', ${id})`
  await sql.end()
  return id
}

/** Adds a second session, beside the caller's. */
const addSession = async (userId: string): Promise<string> => {
  const sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test' })
  const id = randomUUID()
  await sql`insert into gateway.sessions (id, user_id, expires_at) values (${id}, ${userId}, now() + interval '1 hour')`
  await sql.end()
  return id
}

const makeApiKey = async (person: Person, scopes: string[]): Promise<{ id: string; secret: string }> => {
  const body = { name: 'Back end', scopes, password: person.password, pin: PIN }
  const made = await person.ask('POST', '/v1/api-keys', body)
  expect(made.status).toBe(201)
  return made.body
}

/** Creates one object of each kind that a person can own; `payer` places the hold for them. */
const makeObjects = async (person: Person, partner: Wallet, payer: Person): Promise<Objects> => {
  const wallet = await openWallet(person, 'USD', '50')
  const key = randomUUID()
  const sent = await send(person, partner, '1', key)
  expect(sent.status).toBe(201)
  expect((await person.ask('POST', `/v1/transfers/${sent.body.id}/receipt`)).status).toBe(202)
  const { password } = person
  expect((await person.ask('POST', '/v1/users/me/export', { password })).status).toBe(202)
  const held = await payer.ask(
    'POST',
    '/v1/holds',
    { toWalletId: wallet.id, amount: '0.10', currency: 'USD' },
    { 'idempotency-key': randomUUID(), 'step-up-token': payer.stepUp },
  )
  expect(held.status).toBe(201)
  const session = await addSession(person.id)
  const notification = await vi.waitFor(
    async () => {
      const { items } = (await person.ask('GET', '/v1/notifications')).body
      expect(items).not.toEqual([])
      return items[0].id
    },
    { timeout: 20_000, interval: 50 },
  )
  const webhook = (await person.ask('POST', '/v1/webhooks', HOOK)).body.id
  const delivery = (await person.ask('POST', `/v1/webhooks/${webhook}/test`)).body.id
  return {
    user: person.id,
    wallet: wallet.id,
    walletCode: wallet.code,
    transfer: sent.body.id,
    reference: sent.body.reference,
    key,
    hold: held.body.id,
    session,
    notification,
    webhook,
    delivery,
    identity: await linkIdentity(person.id),
    apiKey: (await makeApiKey(person, ['wallets:read'])).id,
  }
}

beforeAll(async () => {
  const document = (await ask('GET', '/openapi.json')).body
  routes = Object.entries(
    document.paths as Record<
      string,
      Record<string, { security?: unknown[]; 'x-required-role'?: Role; 'x-required-scope'?: string }>
    >,
  ).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      method: method.toUpperCase(),
      path,
      secured: (operation.security ?? []).length > 0,
      role: operation['x-required-role'],
      scope: operation['x-required-scope'],
    })),
  )
  const lateness = ({ name }: Route) => LATE.findIndex(pattern => pattern.test(name))
  routes.sort((one, other) => lateness(one) - lateness(other))

  const partner = await makePerson('Paula Partner')
  const spare = await openWallet(partner, 'USD', '50')
  const person = await makePerson('Vic Tim')
  victim = { person, objects: await makeObjects(person, spare, partner), spare }
  const people: Record<Role, Person> = {
    user: await makePerson('Ulla User'),
    moderator: await makeStaff('moderator'),
    admin: await makeStaff('admin'),
    super_admin: await makeStaff('super_admin'),
  }
  for (const role of ROLES) {
    callers[role] = { person: people[role], own: await makeObjects(people[role], spare, partner) }
  }
}, 60_000)

const kindOf = ({ path }: Route) => {
  if (!path.includes('{')) return undefined
  const found = PARAMETERS.find(([pattern]) => pattern.test(path))
  if (!found) throw new Error(`${path}: this test does not know whose object its parameter names`)
  return found[1]
}

/** Whether a route addresses an object that has an owner. */
const isAboutObject = (route: Route) => {
  const kind = kindOf(route)
  return NAMED_OTHERWISE.has(route.name) || (kind !== undefined && kind !== 'action' && kind !== 'recipient')
}

/** The step-up token: of the second factor for staff routes, otherwise of the PIN. */
const stepUpOf = (person: Person | Staff, { path }: Route): string =>
  path.startsWith('/v1/admin/') && 'staffStepUp' in person ? person.staffStepUp : person.stepUp

const askOn = async (route: Route, objects: Objects, caller: Caller | undefined): Promise<Answer> => {
  const kind = kindOf(route)
  const value =
    kind === undefined || kind === 'action' ? 'send' : objects[kind === 'recipient' ? 'walletCode' : kind]
  const path = route.path
    .replace('{action}', 'send')
    .replace('{keyId}', objects.apiKey)
    .replace('{deliveryId}', objects.delivery)
    .replace('{webhookId}', objects.webhook)
    .replace(/\{[^}]+\}/, value)
  const query = QUERIES[route.name]?.(objects)
  const hasBody = (route.method !== 'GET' && route.method !== 'DELETE') || route.name in BODIES
  const body = hasBody ? (BODIES[route.name]?.(objects, victim.spare.id) ?? {}) : undefined
  let token = caller?.apiKey ?? caller?.person.token
  if (caller && !caller.apiKey && ENDS_SESSION.has(route.name)) {
    const throwaway = await makePerson('Gone Soon')
    token = throwaway.token
  }
  const response = await fetch(`${inject('system').gatewayUrl}${path}${query ? `?${query}` : ''}`, {
    method: route.method,
    headers: {
      'idempotency-key': randomUUID(),
      ...(caller && !caller.apiKey ? { 'step-up-token': stepUpOf(caller.person, route) } : {}),
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...(hasBody ? { 'content-type': 'application/json' } : {}),
    },
    ...(hasBody ? { body: JSON.stringify(body) } : {}),
  })
  const text = await readText(response)
  const isJson = response.headers.get('content-type')?.includes('json')
  return {
    status: response.status,
    headers: response.headers,
    body: isJson && text ? JSON.parse(text) : null,
  }
}

/** The access decision in an answer: "passed" unless it was refused for the caller's identity, role or ownership. */
const verdictOf = ({ status, body }: Answer): string => {
  const code: string | undefined = status >= 400 ? body?.code : undefined
  if (status >= 500) return `failed with ${status} ${code}`
  if (code === undefined) return 'passed'
  if (code === 'INSUFFICIENT_PERMISSIONS') return body.requiredRole ? `needs ${body.requiredRole}` : 'refused'
  if (code === 'API_KEY_NOT_ALLOWED') return 'takes no key'
  if (code === 'INSUFFICIENT_SCOPE') return `needs ${body.requiredScope}`
  if (code.startsWith('TOKEN_') || code === 'ACCOUNT_DISABLED') return code
  return status === 404 ? 'not found' : 'passed'
}

const expected = (route: Route, role: Role, whose: 'own' | 'foreign'): string => {
  if (ROLES.indexOf(role) < ROLES.indexOf(route.role!)) return `needs ${route.role}`
  if (!isAboutObject(route)) return 'passed'
  const staff = route.path.startsWith('/v1/admin/')
  if (!staff) return whose === 'own' ? 'passed' : 'not found'
  return whose === 'own' && route.method !== 'GET' ? 'refused' : 'passed'
}

/** A second list, independent of the document: a role lowered by mistake is lowered in the document as well. */
const STAFF_ROUTES: Record<Exclude<Role, 'user'>, string[]> = {
  moderator: [
    'GET /v1/admin/transfers',
    'GET /v1/admin/transfers/{id}',
    'GET /v1/admin/transfers/{id}/timeline',
    'GET /v1/admin/users',
    'GET /v1/admin/users/{id}',
    'GET /v1/admin/wallets',
    'GET /v1/admin/wallets/{id}',
    'GET /v1/admin/wallets/{id}/balance',
    'GET /v1/admin/wallets/{id}/limits',
    'POST /v1/admin/holds/{id}/void',
    'POST /v1/admin/wallets/{id}/freeze',
    'POST /v1/admin/wallets/{id}/unfreeze',
  ],
  admin: [
    'DELETE /v1/admin/users/{id}/api-keys/{keyId}',
    'DELETE /v1/admin/users/{id}/mail-block',
    'DELETE /v1/admin/users/{id}/second-factor',
    'DELETE /v1/admin/users/{id}/sessions',
    'DELETE /v1/admin/webhooks/{id}',
    'GET /v1/admin/audit-logs',
    'GET /v1/admin/limits',
    'GET /v1/admin/users/{id}/api-keys',
    'GET /v1/admin/users/{id}/erasure',
    'GET /v1/admin/users/{id}/sessions',
    'GET /v1/admin/users/{id}/webhooks',
    'GET /v1/admin/webhooks',
    'GET /v1/admin/webhooks/{id}',
    'GET /v1/admin/webhooks/{id}/deliveries',
    'GET /v1/admin/webhooks/{id}/deliveries/{deliveryId}',
    'PATCH /v1/admin/users/{id}/role',
    'PATCH /v1/admin/webhooks/{id}',
    'POST /v1/admin/transfers/{id}/reversals',
    'POST /v1/admin/users/{id}/deactivate',
    'POST /v1/admin/users/{id}/reactivate',
    'POST /v1/admin/users/{id}/webhooks/{webhookId}/disable',
    'POST /v1/admin/webhooks',
    'POST /v1/admin/webhooks/{id}/deliveries/{deliveryId}/redrive',
    'POST /v1/admin/webhooks/{id}/redrive',
    'POST /v1/admin/webhooks/{id}/rotate-secret',
    'POST /v1/admin/webhooks/{id}/test',
    'PUT /v1/admin/wallets/{id}/limits/{action}',
  ],
  super_admin: ['POST /v1/admin/users/{id}/erasure'],
}

/** The same for scopes: routes that are not listed accept no API key. */
const SCOPED_ROUTES: Record<string, string[]> = {
  'wallets:read': [
    'GET /v1/limits',
    'GET /v1/recipients/{walletCode}',
    'GET /v1/wallets',
    'GET /v1/wallets/{id}',
    'GET /v1/wallets/{id}/balance',
    'GET /v1/wallets/{id}/entries',
    'GET /v1/wallets/{id}/entries/stream',
    'GET /v1/wallets/{id}/statement',
  ],
  'transfers:read': [
    'GET /v1/holds',
    'GET /v1/holds/{id}',
    'GET /v1/transfers',
    'GET /v1/transfers/by-idempotency-key/{key}',
    'GET /v1/transfers/by-reference/{reference}',
    'GET /v1/transfers/{id}',
    'GET /v1/transfers/{id}/entries',
    'GET /v1/transfers/{id}/receipt',
    'POST /v1/transfers/{id}/receipt',
  ],
  'transfers:write': ['POST /v1/holds', 'POST /v1/transfers', 'POST /v1/transfers/preview'],
  'holds:capture': ['POST /v1/holds/{id}/capture', 'POST /v1/holds/{id}/void'],
  'deposits:write': ['POST /v1/deposits'],
  'withdrawals:write': ['POST /v1/withdrawals'],
}

test('the document says of each route who may, and this table knows each', () => {
  expect(routes.length).toBeGreaterThan(70)
  for (const route of routes) {
    kindOf(route)
    expect([route.name, route.secured]).toEqual([route.name, route.role !== undefined])
    if (route.path.startsWith('/v1/admin/')) expect(ROLES.indexOf(route.role!), route.name).toBeGreaterThan(0)
  }
  for (const [role, names] of Object.entries(STAFF_ROUTES)) {
    const ofRole = routes.filter(route => route.role === role).map(({ name }) => name)
    expect([role, ofRole.sort()]).toEqual([role, names])
  }
  for (const scope of SCOPES) {
    const ofScope = routes.filter(route => route.scope === scope).map(({ name }) => name)
    expect([scope, ofScope.sort()]).toEqual([scope, SCOPED_ROUTES[scope]])
  }
  const scoped = routes.filter(({ scope }) => scope !== undefined)
  expect(scoped.length).toBe(Object.values(SCOPED_ROUTES).flat().length)
  for (const { role } of scoped) expect(role).toBe('user')
  for (const name of [...Object.keys(BODIES), ...Object.keys(QUERIES), ...NAMED_OTHERWISE]) {
    expect(routes.map(route => route.name)).toContain(name)
  }
})

test('nobody: what is open asks for no token, and what is not says so', async () => {
  for (const route of routes) {
    const verdict = verdictOf(await askOn(route, victim.objects, undefined))
    if (route.secured) expect([route.name, verdict]).toEqual([route.name, 'TOKEN_MISSING'])
    else expect([route.name, verdict]).toEqual([route.name, expect.stringMatching(/^(passed|not found)$/)])
  }
})

/** Requests every route for signed-in users, on another person's objects and on the caller's own. */
const expectTable = async (
  caller: Caller,
  wantedOf: (route: Route, whose: 'own' | 'foreign') => string,
): Promise<void> => {
  const table: string[] = []
  const wanted: string[] = []
  for (const route of routes.filter(({ secured }) => secured)) {
    const cases = isAboutObject(route) ? (['foreign', 'own'] as const) : (['own'] as const)
    for (const whose of cases) {
      const answer = await askOn(route, whose === 'own' ? caller.own : victim.objects, caller)
      table.push(`${route.name}, ${whose}: ${verdictOf(answer)}`)
      wanted.push(`${route.name}, ${whose}: ${wantedOf(route, whose)}`)
    }
  }
  expect(table).toEqual(wanted)
}

test.each(ROLES)(
  '%s: every route, on what is foreign and on what is their own',
  { timeout: 60_000 },
  async role => {
    const caller = callers[role]
    await expectTable(caller, (route, whose) => expected(route, role, whose))
    // The refused requests have changed nothing on the victim's wallet.
    const wallet = (await victim.person.ask('GET', `/v1/wallets/${victim.objects.wallet}`)).body
    if (role === 'user') expect(wallet).toMatchObject({ status: 'active', balance: '49.00' })
  },
)

test.each(['user', 'super_admin'] as const)(
  'an API key of a %s with every scope: as a user where the route has one, else nowhere',
  { timeout: 60_000 },
  async role => {
    const partner = await makePerson('Paula Partner')
    const spare = await openWallet(partner, 'USD', '50')
    const person = role === 'user' ? await makePerson('Kay Key') : await makeStaff(role)
    const own = await makeObjects(person, spare, partner)
    const caller = { person, own, apiKey: (await makeApiKey(person, SCOPES)).secret }
    await expectTable(caller, (route, whose) =>
      route.scope === undefined ? 'takes no key' : expected(route, 'user', whose),
    )
    // The key gives no control of the account: the account is unchanged.
    expect((await person.ask('GET', '/v1/users/me')).status).toBe(200)
  },
)

test.each(SCOPES)('an API key with %s alone: on no route of another scope', async scope => {
  const person = await makePerson('Kay Key')
  const caller = { person, own: victim.objects, apiKey: (await makeApiKey(person, [scope])).secret }
  const others = routes.filter(route => route.scope !== undefined && route.scope !== scope)
  for (const route of others) {
    const verdict = verdictOf(await askOn(route, victim.objects, caller))
    expect([route.name, verdict]).toEqual([route.name, `needs ${route.scope}`])
  }
})
