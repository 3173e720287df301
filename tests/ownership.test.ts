// No route shows or moves another person's property, and none answers without a session.
import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, inject, test } from 'vitest'
import {
  ask,
  balanceOf,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  send,
  type Wallet,
} from './client.ts'

let alice: Person
let bob: Person
let mallory: Person
let from: Wallet
let to: Wallet
let transferId: string
let holdId: string
let reference: string
const key = randomUUID()

beforeAll(async () => {
  ;[alice, bob, mallory] = await Promise.all([
    makePerson('Alice Smith'),
    makePerson('Bob Brown'),
    makePerson('Mallory'),
  ])
  from = await openWallet(alice, 'USD', '100')
  to = await openWallet(bob, 'USD')
  const sent = await send(alice, to, '10', key)
  transferId = sent.body.id
  reference = sent.body.reference
  const held = await alice.ask(
    'POST',
    '/v1/holds',
    { toWalletId: to.id, amount: '5', currency: 'USD' },
    { 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp },
  )
  holdId = held.body.id
})

describe("a stranger finds nothing of somebody else's", () => {
  test.each([
    ['the wallet', () => `/v1/wallets/${from.id}`, 'WALLET_NOT_FOUND'],
    ['its balance', () => `/v1/wallets/${from.id}/balance`, 'WALLET_NOT_FOUND'],
    [
      'its balance at a moment',
      () => `/v1/wallets/${from.id}/balance?at=2026-01-01T00:00:00Z`,
      'WALLET_NOT_FOUND',
    ],
    [
      'its statement',
      () => `/v1/wallets/${from.id}/statement?from=2026-01-01&to=2026-01-02&format=csv`,
      'WALLET_NOT_FOUND',
    ],
    ['its limits', () => `/v1/limits?walletId=${from.id}`, 'WALLET_NOT_FOUND'],
    ['its entries', () => `/v1/wallets/${from.id}/entries`, 'WALLET_NOT_FOUND'],
    ['the transfer', () => `/v1/transfers/${transferId}`, 'TRANSFER_NOT_FOUND'],
    ['its entries', () => `/v1/transfers/${transferId}/entries`, 'TRANSFER_NOT_FOUND'],
    ['the transfers of the wallet', () => `/v1/transfers?walletId=${from.id}`, 'WALLET_NOT_FOUND'],
    ['its receipt', () => `/v1/transfers/${transferId}/receipt`, 'RECEIPT_NOT_FOUND'],
    ['the hold', () => `/v1/holds/${holdId}`, 'HOLD_NOT_FOUND'],
    ['the hold as a transfer', () => `/v1/transfers/${holdId}`, 'TRANSFER_NOT_FOUND'],
    ['the transfer by its reference', () => `/v1/transfers/by-reference/${reference}`, 'TRANSFER_NOT_FOUND'],
    ['the transfer by its key', () => `/v1/transfers/by-idempotency-key/${key}`, 'TRANSFER_NOT_FOUND'],
  ])('%s', async (_what, path, code) => {
    const answer = await mallory.ask('GET', path())
    expect([answer.status, answer.body.code]).toEqual([404, code])
    // An object that does not exist gets the same answer.
    const nothing = await mallory.ask(
      'GET',
      path().replace(from.id, randomUUID()).replace(transferId, randomUUID()).replace(holdId, randomUUID()),
    )
    expect({ ...nothing.body, requestId: null }).toEqual({ ...answer.body, requestId: null })
  })

  test('lists hold nothing of others', async () => {
    const others = [from.code, from.id, to.code, to.id].map(wallet => `/v1/transfers?counterparty=${wallet}`)
    for (const path of ['/v1/wallets', '/v1/transfers', '/v1/holds', ...others]) {
      expect((await mallory.ask('GET', path)).body).toEqual({ items: [], nextCursor: null })
    }
    expect((await mallory.ask('GET', '/v1/webhooks')).body).toEqual({ items: [] })
    // Mallory's own first PIN, and nothing else.
    const { items } = (await mallory.ask('GET', '/v1/notifications')).body
    expect(items.filter(({ type }: { type: string }) => type !== 'pin_set')).toEqual([])
    const sessions = (await mallory.ask('GET', '/v1/sessions')).body
    expect(JSON.stringify(sessions)).not.toContain(alice.id)
  })

  test("money leaves nobody's wallet but the sender's own", async () => {
    const stolen = await mallory.ask(
      'POST',
      '/v1/transfers',
      { fromWalletId: from.id, toWalletId: to.id, amount: '1', currency: 'USD' },
      { 'idempotency-key': randomUUID(), 'step-up-token': mallory.stepUp },
    )
    expect([stolen.status, stolen.body.code]).toEqual([404, 'WALLET_NOT_FOUND'])
    const deposit = await mallory.ask(
      'POST',
      '/v1/deposits',
      { walletId: from.id, amount: '1', currency: 'USD' },
      { 'idempotency-key': randomUUID() },
    )
    expect([deposit.status, deposit.body.code]).toEqual([404, 'WALLET_NOT_FOUND'])
    expect(await balanceOf(alice, from)).toBe('90.00')
  })

  test("and changes nothing of somebody else's", async () => {
    const asked: Array<[method: string, path: string, body: object | undefined, code: string]> = [
      ['POST', `/v1/transfers/${transferId}/receipt`, undefined, 'TRANSFER_NOT_FOUND'],
      ['POST', `/v1/wallets/${from.id}/freeze`, {}, 'WALLET_NOT_FOUND'],
      ['POST', `/v1/wallets/${from.id}/unfreeze`, {}, 'WALLET_NOT_FOUND'],
      ['DELETE', `/v1/wallets/${to.id}`, undefined, 'WALLET_NOT_FOUND'],
      ['PATCH', '/v1/limits/send', { walletId: from.id, daily: '1' }, 'WALLET_NOT_FOUND'],
      ['PUT', '/v1/limits/send', { walletId: from.id, daily: '1' }, 'WALLET_NOT_FOUND'],
      ['DELETE', `/v1/limits/send?walletId=${from.id}`, undefined, 'WALLET_NOT_FOUND'],
      ['POST', `/v1/holds/${holdId}/capture`, {}, 'HOLD_NOT_FOUND'],
      ['POST', `/v1/holds/${holdId}/void`, undefined, 'HOLD_NOT_FOUND'],
      [
        'POST',
        '/v1/holds',
        { fromWalletId: from.id, toWalletId: to.id, amount: '1', currency: 'USD' },
        'WALLET_NOT_FOUND',
      ],
      [
        'POST',
        '/v1/withdrawals',
        { walletId: from.id, amount: '1', currency: 'USD', destination: 'DE02 1203' },
        'WALLET_NOT_FOUND',
      ],
      [
        'POST',
        '/v1/transfers/preview',
        { fromWalletId: from.id, toWalletId: to.id, amount: '1', currency: 'USD' },
        'WALLET_NOT_FOUND',
      ],
    ]
    const before = await alice.ask('GET', '/v1/wallets')
    for (const [method, path, body, code] of asked) {
      const headers = { 'idempotency-key': randomUUID(), 'step-up-token': mallory.stepUp }
      const answer = await mallory.ask(method, path, body, headers)
      expect([method, path, answer.status, answer.body.code]).toEqual([method, path, 404, code])
    }
    expect((await alice.ask('GET', '/v1/wallets')).body).toEqual(before.body)
    expect((await alice.ask('GET', `/v1/holds/${holdId}`)).body.status).toBe('active')
    expect((await bob.ask('GET', `/v1/wallets/${to.id}`)).body.status).toBe('active')
  })

  test("another's session cannot be ended, nor its step-up used", async () => {
    const { items } = (await alice.ask('GET', '/v1/sessions')).body
    const ended = await mallory.ask('DELETE', `/v1/sessions/${items[0].id}`)
    expect([ended.status, ended.body.code]).toEqual([404, 'SESSION_NOT_FOUND'])
    expect((await alice.ask('GET', '/v1/users/me')).status).toBe(200)
    const borrowed = await mallory.ask(
      'POST',
      '/v1/transfers',
      { toWalletId: to.id, amount: '1', currency: 'USD' },
      { 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp },
    )
    expect([404, 403]).toContain(borrowed.status)
  })

  test('a party sees both sides and the amount, but only its own balance', async () => {
    const mine = (await alice.ask('GET', `/v1/transfers/${transferId}`)).body
    const theirs = (await bob.ask('GET', `/v1/transfers/${transferId}`)).body
    expect([mine.balanceAfter, theirs.balanceAfter]).toEqual(['90.00', '10.00'])
    expect(JSON.stringify(theirs)).not.toContain('90.00')
    expect(JSON.stringify(theirs)).not.toContain('Smith')
  })

  test('the look-up of a recipient tells a masked name and no balance', async () => {
    const { body } = await mallory.ask('GET', `/v1/recipients/${from.code}`)
    expect(body).toEqual({ walletId: from.id, walletCode: from.code, currency: 'USD', name: 'Alice S.' })
  })
})

test('every route of the document that wants a session refuses without one, and with an ended one', async () => {
  const ended = await makePerson('Gone')
  expect(
    (await ended.ask('POST', '/v1/auth/logout', { refreshToken: ended.refreshToken })).status,
  ).toBeLessThan(300)
  const document = (await ask('GET', '/openapi.json')).body
  const guarded = Object.entries(
    document.paths as Record<string, Record<string, { security?: unknown[] }>>,
  ).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, route]) => (route.security ?? []).length > 0)
      .map(([method]) => [method.toUpperCase(), path.replace(/\{[^}]+\}/g, randomUUID())] as const),
  )
  expect(guarded.length).toBeGreaterThan(15)
  for (const [method, path] of guarded) {
    const body = method === 'GET' || method === 'DELETE' ? undefined : {}
    const without = await ask(method, path, { body })
    expect([method, path, without.status, without.body.code]).toEqual([method, path, 401, 'TOKEN_MISSING'])
    const after = await ask(method, path, { body, token: ended.token })
    expect([method, path, after.status, after.body.code]).toEqual([method, path, 401, 'TOKEN_REVOKED'])
  }
})

test('every route for staff refuses users, and those for admins moderators, before it looks at anything', async () => {
  const moderator = await makeStaff('moderator')
  const document = (await ask('GET', '/openapi.json')).body
  const staffOnly = Object.entries(document.paths as Record<string, object>)
    .filter(([path]) => path.startsWith('/v1/admin/'))
    .flatMap(([path, methods]) => Object.keys(methods).map(method => [method.toUpperCase(), path] as const))
  expect(staffOnly.length).toBeGreaterThanOrEqual(9)
  const needed: string[] = []
  for (const [method, pattern] of staffOnly) {
    const path = pattern.replace(/\{[^}]+\}/g, randomUUID())
    const body = method === 'GET' || method === 'DELETE' ? undefined : {}
    const byUser = await alice.ask(method, path, body)
    expect([method, pattern, byUser.status, byUser.body.code]).toEqual([
      method,
      pattern,
      403,
      'INSUFFICIENT_PERMISSIONS',
    ])
    const byModerator = await moderator.ask(method, path, body)
    if (byModerator.status === 403) needed.push(`${method} ${pattern} ${byModerator.body.requiredRole}`)
  }
  expect(needed.sort()).toEqual([
    'DELETE /v1/admin/users/{id}/api-keys/{keyId} admin',
    'DELETE /v1/admin/users/{id}/mail-block admin',
    'DELETE /v1/admin/users/{id}/second-factor admin',
    'DELETE /v1/admin/users/{id}/sessions admin',
    'DELETE /v1/admin/webhooks/{id} admin',
    'GET /v1/admin/audit-logs admin',
    'GET /v1/admin/limits admin',
    'GET /v1/admin/users/{id}/api-keys admin',
    'GET /v1/admin/users/{id}/erasure admin',
    'GET /v1/admin/users/{id}/sessions admin',
    'GET /v1/admin/users/{id}/webhooks admin',
    'GET /v1/admin/webhooks admin',
    'GET /v1/admin/webhooks/{id} admin',
    'GET /v1/admin/webhooks/{id}/deliveries admin',
    'GET /v1/admin/webhooks/{id}/deliveries/{deliveryId} admin',
    'PATCH /v1/admin/users/{id}/role admin',
    'PATCH /v1/admin/webhooks/{id} admin',
    'POST /v1/admin/transfers/{id}/reversals admin',
    'POST /v1/admin/users/{id}/deactivate admin',
    'POST /v1/admin/users/{id}/erasure super_admin',
    'POST /v1/admin/users/{id}/reactivate admin',
    'POST /v1/admin/users/{id}/webhooks/{webhookId}/disable admin',
    'POST /v1/admin/webhooks admin',
    'POST /v1/admin/webhooks/{id}/deliveries/{deliveryId}/redrive admin',
    'POST /v1/admin/webhooks/{id}/redrive admin',
    'POST /v1/admin/webhooks/{id}/rotate-secret admin',
    'POST /v1/admin/webhooks/{id}/test admin',
    'PUT /v1/admin/wallets/{id}/limits/{action} admin',
  ])
})

test('operations: each service tells its health, its dependencies and its metrics', async () => {
  for (const url of Object.values(inject('system').opsUrls)) {
    expect(await (await fetch(`${url}/healthz`)).json()).toEqual({ status: 'ok' })
    const ready = await fetch(`${url}/readyz`)
    expect([ready.status, Object.keys(((await ready.json()) as { checks: object }).checks)]).toEqual([
      200,
      expect.arrayContaining(['postgres', 'kafka']),
    ])
    expect(await (await fetch(`${url}/metrics`)).text()).toContain('pennywire_')
  }
})
