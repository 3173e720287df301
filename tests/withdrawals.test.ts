// Withdrawals: the money is held first, then paid out once or released back to the wallet, whichever process dies
// meanwhile.
import { createHmac, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { payoutReturnIdOf, transferIdOf } from '@pennywire/contracts/ids.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import {
  type Answer,
  ask,
  control,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  send,
  type Wallet,
} from './client.ts'

let sql: Database
let secret: string
let admin: Person
let alice: Person
let wallet: Wallet

beforeAll(async () => {
  admin = await makeStaff('admin')
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test', maxConnections: 2 })
  secret = JSON.parse(
    readFileSync(join(inject('system').dataDir, 'keys', 'provider-secret.json'), 'utf8'),
  ).secret
})
afterAll(() => sql.end())
beforeEach(async () => {
  alice = await makePerson('Alice Smith')
  wallet = await openWallet(alice, 'USD', '100.00')
})

type Options = { key?: string; prefer?: string; amount?: string; gatewayUrl?: string }

const withdraw = (destination: string, options: Options = {}): Promise<Answer> =>
  ask('POST', '/v1/withdrawals', {
    token: alice.token,
    body: { walletId: wallet.id, amount: options.amount ?? '30.00', currency: 'USD', destination },
    headers: {
      'idempotency-key': options.key ?? randomUUID(),
      'step-up-token': alice.stepUp,
      prefer: options.prefer ?? 'wait=10',
    },
    ...(options.gatewayUrl ? { gatewayUrl: options.gatewayUrl } : {}),
  })

/** Balance and available amount. */
const money = async (gatewayUrl?: string): Promise<[string, string]> => {
  const { body } = await ask('GET', `/v1/wallets/${wallet.id}/balance`, {
    token: alice.token,
    ...(gatewayUrl ? { gatewayUrl } : {}),
  })
  return [body.balance, body.available]
}

const until = (check: () => Promise<void>) => vi.waitFor(check, { timeout: 30_000, interval: 100 })

const show = (id: string, gatewayUrl?: string) =>
  ask('GET', `/v1/transfers/${id}`, { token: alice.token, ...(gatewayUrl ? { gatewayUrl } : {}) })

const callback = (body: object, options: { secret?: string; at?: number } = {}) => {
  const text = JSON.stringify(body)
  const seconds = options.at ?? Math.floor(Date.now() / 1_000)
  const mac = createHmac('sha256', options.secret ?? secret)
    .update(`${seconds}.${text}`)
    .digest('hex')
  return ask('POST', '/v1/provider/callbacks', {
    body: text,
    headers: { 'provider-signature': `t=${seconds},v1=${mac}` },
  })
}

const paymentOf = async (id: string) => {
  const [row] = await sql<
    { status: string; done: boolean }[]
  >`select status, done_at is not null as done from gateway.payments where id = ${id}`
  return row
}

const heldAndOrderUnanswered = async (id: string) =>
  until(async () => {
    const holds = await sql`select 1 from ledger.holds where id = ${id} and status = 'active'`
    expect([holds.length, await paymentOf(id)]).toEqual([1, { status: 'ordering', done: false }])
  })

/** The state left by a gateway that died before it sent its command to the ledger: only the payment row. */
const leaveRow = async (expiresIn: string): Promise<string> => {
  const id = randomUUID()
  await sql`
    insert into gateway.payments (id, kind, user_id, wallet_id, amount, currency, method, fingerprint, requested_at,
      updated_at, authenticated_by, authenticated_at, expires_at)
    select ${id}, 'withdrawal', ${alice.id}, ${wallet.id}, 3000, 'USD', method, ${Buffer.alloc(16, 7)},
      now() - interval '10 minutes', now(), 'pin', now(), now() + ${expiresIn}::interval
    from gateway.payments where user_id = ${alice.id} limit 1`
  return id
}

/** The wallet's entries after the first deposit, in order. */
const entries = async () => {
  const rows = await sql<{ amount: bigint }[]>`
    select amount from ledger.entries where wallet_id = ${wallet.id} and sequence > 1 order by sequence`
  return rows.map(({ amount }) => Number(amount))
}

describe('the provider', () => {
  test('pays out: the money is gone, the transfer is shown, listed and told again', async () => {
    const key = randomUUID()
    const answer = await withdraw('DE02 1203', { key })
    expect(answer.body).toMatchObject({
      type: 'withdrawal',
      status: 'completed',
      from: { walletId: wallet.id },
      to: null,
      amount: '30.00',
      balanceAfter: '70.00',
    })
    expect([answer.status, answer.headers.get('location')]).toEqual([201, `/v1/transfers/${answer.body.id}`])
    expect(await money()).toEqual(['70.00', '70.00'])
    const again = await withdraw('DE02 1203', { key })
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([201, 'true'])
    expect(again.body).toEqual(answer.body)
    const list = await alice.ask('GET', '/v1/transfers?type=withdrawal')
    expect(list.body.items).toEqual([answer.body])
    expect((await withdraw('another', { key })).body.code).toBe('IDEMPOTENCY_KEY_REUSED')
    await until(async () =>
      expect(await paymentOf(answer.body.id)).toEqual({ status: 'confirmed', done: true }),
    )
    expect(await entries()).toEqual([-3000])
    const [{ method }] = await sql<
      [{ method: Buffer }]
    >`select method from gateway.payments where id = ${answer.body.id}`
    expect(method.toString('latin1')).not.toContain('DE02')
  })

  test.each([
    ['sandbox:fail', 402, 'PAYMENT_FAILED'],
    ['sandbox:dance', 422, 'VALIDATION_ERROR'],
  ])('refuses %s: final, and the money is free again', async (destination, status, code) => {
    const key = randomUUID()
    const answer = await withdraw(destination, { key })
    expect([answer.status, answer.body.code, answer.body.final]).toEqual([status, code, true])
    await until(async () => expect(await money()).toEqual(['100.00', '100.00']))
    const again = await withdraw(destination, { key })
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([status, 'true'])
    const id = transferIdOf(alice.id, key)
    const shown = [
      await show(id),
      await alice.ask('GET', `/v1/transfers/by-idempotency-key/${key}`),
      await alice.ask('GET', `/v1/transfers/by-reference/${(await show(id)).body.reference}`),
    ]
    for (const { body } of shown)
      expect(body).toMatchObject({ id, type: 'withdrawal', status: 'rejected', rejection: { code } })
    await until(async () => expect(await paymentOf(id)).toEqual({ status: 'failed', done: true }))
    expect(await entries()).toEqual([])
  })

  test('takes its time: the money is held, the repeat waits for the same payout', async () => {
    const key = randomUUID()
    const pending = await withdraw('sandbox:delay', { key, prefer: 'wait=0' })
    expect([pending.status, pending.body.status, pending.body.final]).toEqual([202, 'pending', false])
    await until(async () => expect(await money()).toEqual(['100.00', '70.00']))
    for (const path of ['', 'by-idempotency-key/', 'by-reference/']) {
      const name = {
        '': pending.body.id,
        'by-idempotency-key/': key,
        'by-reference/': pending.body.reference,
      }[path]
      expect((await alice.ask('GET', `/v1/transfers/${path}${name}`)).body.status).toBe('pending')
    }
    const stranger = await makePerson('Stranger')
    expect((await stranger.ask('GET', `/v1/transfers/${pending.body.id}`)).status).toBe(404)
    const done = await withdraw('sandbox:delay', { key })
    expect([done.status, done.body.id]).toEqual([201, pending.body.id])
    expect(await money()).toEqual(['70.00', '70.00'])
  })

  test('says nothing: held until it is asked, and once it has paid the worker finds out', async () => {
    const lost = await withdraw('sandbox:lost', { prefer: 'wait=0' })
    const silent = await withdraw('sandbox:silent', { prefer: 'wait=0' })
    await until(async () => expect((await show(lost.body.id)).body.status).toBe('completed'))
    await until(async () =>
      expect(await paymentOf(silent.body.id)).toEqual({ status: 'pending', done: false }),
    )
    expect(await money()).toEqual(['70.00', '40.00'])
  })

  test('pays out, and the money comes back: balance as before, the transfer is reversed', async () => {
    const answer = await withdraw('sandbox:return')
    expect([answer.status, answer.body.balanceAfter]).toEqual([201, '70.00'])
    await until(async () => expect(await money()).toEqual(['100.00', '100.00']))
    expect((await show(answer.body.id)).body).toMatchObject({ status: 'reversed', reversedAmount: '30.00' })
    expect((await show(payoutReturnIdOf(answer.body.id))).body).toMatchObject({
      type: 'reversal',
      amount: '30.00',
      to: { walletId: wallet.id },
    })
    await until(async () =>
      expect(await paymentOf(answer.body.id)).toEqual({ status: 'returned', done: true }),
    )
    expect(await entries()).toEqual([-3000, 3000])
  })
})

test('of parallel withdrawals of the whole balance one wins', async () => {
  const answers = await Promise.all(Array.from({ length: 10 }, () => withdraw('bank', { amount: '100.00' })))
  expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array(9).fill(402)])
  expect(await money()).toEqual(['0.00', '0.00'])
  expect(await entries()).toEqual([-10000])
})

test('what is held for a payout cannot be sent meanwhile', async () => {
  const bob = await makePerson('Bob Brown')
  const other = await openWallet(bob, 'USD')
  const pending = await withdraw('sandbox:silent', { prefer: 'wait=0' })
  await until(async () => expect(await money()).toEqual(['100.00', '70.00']))
  expect((await send(alice, other, '70.01')).body.code).toBe('INSUFFICIENT_BALANCE')
  expect((await send(alice, other, '70.00')).status).toBe(201)
  expect((await show(pending.body.id)).body.status).toBe('pending')
})

test.each([
  ['no PIN and no step-up token', {}, { 'step-up-token': '' }, 403],
  ['a wrong PIN', { pin: '111112' }, {}, 403],
  ['an unknown wallet', { walletId: randomUUID() }, {}, 404],
  ['another currency', { currency: 'EUR' }, {}, 422],
  ['more than is there', { amount: '100.01' }, {}, 402],
  ['no destination', { destination: undefined }, {}, 422],
])('a withdrawal with %s is refused, and nothing is held', async (_what, body, headers, status) => {
  const answer = await alice.ask(
    'POST',
    '/v1/withdrawals',
    { walletId: wallet.id, amount: '1.00', currency: 'USD', destination: 'bank', ...body },
    { 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp, ...headers },
  )
  expect([answer.status, await money()]).toEqual([status, ['100.00', '100.00']])
})

describe('callbacks', () => {
  /** A payout that the provider has accepted and does not report on. */
  const order = async () => {
    const pending = await withdraw('sandbox:silent', { prefer: 'wait=1' })
    const { id } = pending.body
    await until(async () => expect(await paymentOf(id)).toEqual({ status: 'pending', done: false }))
    return {
      id,
      kind: 'withdrawal',
      status: 'succeeded',
      amount: '30.00',
      currency: 'USD',
      providerReference: 'test',
    }
  }
  const REASON = { failureReason: 'a test says so' }

  test('X1: replayed, also many at once: paid out once', async () => {
    const body = await order()
    const answers = await Promise.all(Array.from({ length: 10 }, () => callback(body)))
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(204))
    await until(async () => expect(await money()).toEqual(['70.00', '70.00']))
    await until(async () => expect((await paymentOf(body.id))?.done).toBe(true))
    // Late callbacks: long after the payment was settled.
    expect((await callback(body)).status).toBe(204)
    expect((await callback({ ...body, status: 'returned' })).status).toBe(204)
    await until(async () => expect(await money()).toEqual(['100.00', '100.00']))
    expect((await callback({ ...body, status: 'returned' })).status).toBe(204)
    expect((await callback(body)).status).toBe(204)
    expect(await entries()).toEqual([-3000, 3000])
  })

  test('forged, unsigned, old, of another amount, currency or kind, of no payment: refused, and nothing moves', async () => {
    const body = await order()
    const refusals = [
      await callback(body, { secret: 'x'.repeat(40) }),
      await callback(body, { at: Math.floor(Date.now() / 1_000) - 400 }),
      await ask('POST', '/v1/provider/callbacks', { body: body }),
      await callback({ ...body, amount: '3.00' }),
      await callback({ ...body, currency: 'EUR' }),
      await callback({ ...body, kind: 'deposit' }),
      await callback({ ...body, id: randomUUID() }),
      await callback({ ...body, kind: 'deposit', status: 'returned' }),
    ]
    expect(refusals.map(({ status, body }) => [status, body.code])).toEqual([
      [401, 'SIGNATURE_INVALID'],
      [401, 'SIGNATURE_INVALID'],
      [401, 'SIGNATURE_INVALID'],
      [422, 'VALIDATION_ERROR'],
      [422, 'VALIDATION_ERROR'],
      [404, 'PAYMENT_NOT_FOUND'],
      [404, 'PAYMENT_NOT_FOUND'],
      [422, 'VALIDATION_ERROR'],
    ])
    expect([await money(), await entries()]).toEqual([['100.00', '70.00'], []])
  })

  test('out of order: returned before succeeded was heard', async () => {
    const body = await order()
    expect((await callback({ ...body, status: 'returned', ...REASON })).status).toBe(204)
    expect((await callback(body)).status).toBe(204)
    await until(async () => expect(await money()).toEqual(['100.00', '100.00']))
    expect((await show(body.id)).body.status).toBe('reversed')
    expect(await entries()).toEqual([-3000, 3000])
  })

  test('out of order: before the answer to our order came, and it is not ordered again', async () => {
    await control('provider', 'SIGKILL')
    const pending = await withdraw('bank', { prefer: 'wait=1' })
    const { id } = pending.body
    await heldAndOrderUnanswered(id)
    const body = { id, kind: 'withdrawal', status: 'succeeded', amount: '30.00', currency: 'USD' }
    expect((await callback({ ...body, providerReference: 'test' })).status).toBe(204)
    await until(async () => expect(await paymentOf(id)).toEqual({ status: 'confirmed', done: true }))
    await control('provider', 'restart')
    expect([await money(), await entries()]).toEqual([['70.00', '70.00'], [-3000]])
  })

  test('of a payout that cannot have been ordered, because nothing is held: refused', async () => {
    const id = await leaveRow('5 minutes')
    const body = { id, kind: 'withdrawal', status: 'succeeded', amount: '30.00', currency: 'USD' }
    const answer = await callback({ ...body, providerReference: 'test' })
    expect([answer.status, answer.body.code]).toEqual([404, 'PAYMENT_NOT_FOUND'])
    expect(await paymentOf(id)).toEqual({ status: 'created', done: false })
    await sql`update gateway.payments set expires_at = now() - interval '1 minute' where id = ${id}`
    await until(async () => expect(await paymentOf(id)).toEqual({ status: 'failed', done: true }))
    expect([await money(), await entries()]).toEqual([['100.00', '100.00'], []])
  })

  test('failed after succeeded, and succeeded after failed: an alarm, no second movement', async () => {
    const alarms = async () =>
      Number(
        /^pennywire_gateway_payment_contradictions_total\{kind="withdrawal"\} (\d+)$/m.exec(
          await (await fetch(`${inject('system').opsUrls.gateway}/metrics`)).text(),
        )?.[1] ?? 0,
      )
    const before = await alarms()
    const paid = await order()
    expect((await callback(paid)).status).toBe(204)
    await until(async () => expect(await money()).toEqual(['70.00', '70.00']))
    expect((await callback({ ...paid, status: 'failed', ...REASON })).status).toBe(204)
    const refused = await order()
    expect((await callback({ ...refused, status: 'failed', ...REASON })).status).toBe(204)
    await until(async () => expect(await money()).toEqual(['70.00', '70.00']))
    for (const status of ['succeeded', 'returned']) {
      expect((await callback({ ...refused, status })).status).toBe(204)
    }
    expect(await alarms()).toBe(before + 3)
    for (const { id } of [paid, refused])
      await until(async () => expect((await paymentOf(id))?.done).toBe(true))
    expect([await money(), await entries()]).toEqual([['70.00', '70.00'], [-3000]])
    expect((await show(refused.id)).body.rejection.detail).toContain(REASON.failureReason)
  })
})

describe('somebody dies', () => {
  test('the provider, before and after it has the order: paid out once it is back', async () => {
    const pending = await withdraw('sandbox:delay', { prefer: 'wait=0' })
    await until(async () => expect((await paymentOf(pending.body.id))?.status).toBe('pending'))
    await control('provider', 'SIGKILL')
    const away = await withdraw('bank', { prefer: 'wait=1' })
    expect([away.status, away.body.status]).toEqual([202, 'pending'])
    await heldAndOrderUnanswered(away.body.id)
    await control('provider', 'restart')
    await until(async () => expect(await money()).toEqual(['40.00', '40.00']))
    expect(await entries()).toEqual([-3000, -3000])
  })

  test('the gateway, between hold and payout: another one orders it, and asks what became of it', async () => {
    await control('provider', 'SIGKILL')
    const pending = await withdraw('bank', { prefer: 'wait=1' })
    await heldAndOrderUnanswered(pending.body.id)
    await control('gateway', 'SIGKILL')
    await control('provider', 'restart')
    const started = await fetch(`${inject('system').controlUrl}/gateway/start`, { method: 'POST' })
    const other = (await started.json()) as { name: string; url: string }
    try {
      // The provider's callback to the dead gateway fails.
      await until(async () => expect((await show(pending.body.id, other.url)).body.status).toBe('completed'))
      expect(await money(other.url)).toEqual(['70.00', '70.00'])
    } finally {
      await control('gateway', 'restart')
      await control(other.name, 'stop')
    }
    expect(await entries()).toEqual([-3000])
  })

  test('the gateway, before its request was sent: refused once it has expired, and nothing is held', async () => {
    const id = await leaveRow('-5 minutes')
    await until(async () => expect(await paymentOf(id)).toEqual({ status: 'failed', done: true }))
    expect((await show(id)).body).toMatchObject({
      status: 'rejected',
      rejection: { code: 'REQUEST_EXPIRED' },
    })
    expect(await money()).toEqual(['100.00', '100.00'])
  })

  test('the ledger, between callback and capture: captured once it is back', async () => {
    const pending = await withdraw('sandbox:silent', { prefer: 'wait=1' })
    const { id } = pending.body
    await until(async () => expect((await paymentOf(id))?.status).toBe('pending'))
    await control('ledger', 'SIGKILL')
    try {
      const body = { id, kind: 'withdrawal', status: 'succeeded', amount: '30.00', currency: 'USD' }
      expect((await callback({ ...body, providerReference: 'test' })).status).toBe(204)
      expect(await money()).toEqual(['100.00', '70.00'])
    } finally {
      await control('ledger', 'restart')
    }
    await until(async () => expect(await money()).toEqual(['70.00', '70.00']))
    await until(async () => expect(await paymentOf(id)).toEqual({ status: 'confirmed', done: true }))
    expect(await entries()).toEqual([-3000])
  })
})

describe('limits', () => {
  const limit = async (action: string, perTransaction: string, daily: string) => {
    const path = `/v1/admin/wallets/${wallet.id}/limits/${action}`
    expect((await admin.ask('PUT', path, { perTransaction, daily })).status).toBe(200)
  }
  const deposit = (amount: string, source?: string, gatewayUrl?: string) =>
    ask('POST', '/v1/deposits', {
      token: alice.token,
      body: { walletId: wallet.id, amount, currency: 'USD', ...(source ? { source } : {}) },
      headers: { 'idempotency-key': randomUUID(), prefer: 'wait=10' },
      ...(gatewayUrl ? { gatewayUrl } : {}),
    })

  test('of withdrawals: the ledger refuses', async () => {
    await limit('withdrawal', '50.00', '60.00')
    const single = await withdraw('bank', { amount: '50.01' })
    expect([single.status, single.body]).toMatchObject([
      422,
      { code: 'PER_TRANSACTION_LIMIT_EXCEEDED', limit: '50.00', requested: '50.01', final: true },
    ])
    expect((await withdraw('bank', { amount: '50.00' })).status).toBe(201)
    const daily = await withdraw('bank', { amount: '10.01' })
    expect(daily.body).toMatchObject({ code: 'DAILY_LIMIT_EXCEEDED', limit: '60.00', used: '50.00' })
  })

  test('of deposits: refused before the provider is asked, and nothing is stored', async () => {
    await limit('deposit', '50.00', '200.00')
    const key = randomUUID()
    const body = { walletId: wallet.id, amount: '50.01', currency: 'USD' }
    const refused = await alice.ask('POST', '/v1/deposits', body, { 'idempotency-key': key })
    expect([refused.status, refused.body]).toMatchObject([
      422,
      {
        code: 'PER_TRANSACTION_LIMIT_EXCEEDED',
        limit: '50.00',
        used: '0.00',
        requested: '50.01',
        final: false,
      },
    ])
    expect(await paymentOf(transferIdOf(alice.id, key))).toBeUndefined()
    // The key is unused, and pending deposits count: 100 are booked, 50 are pending.
    const second = await alice.ask(
      'POST',
      '/v1/deposits',
      { ...body, amount: '50.00', source: 'sandbox:silent' },
      { 'idempotency-key': key, prefer: 'wait=0' },
    )
    expect(second.status).toBe(202)
    expect((await deposit('50.00')).status).toBe(201)
    expect((await deposit('0.01')).body).toMatchObject({
      code: 'DAILY_LIMIT_EXCEEDED',
      limit: '200.00',
      used: '200.00',
      requested: '0.01',
    })
    // A deposit that the provider refused no longer counts.
    const state = {
      kind: 'deposit',
      status: 'failed',
      amount: '50.00',
      currency: 'USD',
      providerReference: 'test',
    }
    expect((await callback({ ...state, id: second.body.id })).status).toBe(204)
    expect((await deposit('50.00')).status).toBe(201)
  })

  test('of deposits, twenty at once at the boundary over two gateways: as many pass as fit', async () => {
    await limit('deposit', '50.00', '200.00')
    const started = await fetch(`${inject('system').controlUrl}/gateway/start`, { method: 'POST' })
    const other = (await started.json()) as { name: string; url: string }
    try {
      // Block all writes until as many deposits as possible have read the limits: four at a time in each gateway.
      const asking = await sql.begin(async tx => {
        await tx`lock table gateway.payments in exclusive mode`
        const all = Array.from({ length: 20 }, (_, index) =>
          deposit('10.00', undefined, index % 2 ? other.url : undefined),
        )
        await until(async () => {
          const [{ waiting }] = await sql<
            [{ waiting: number }]
          >`select count(*)::int as waiting from pg_stat_activity where wait_event_type = 'Lock'`
          expect(waiting).toBeGreaterThanOrEqual(8)
        })
        return { all }
      })
      const answers = await Promise.all(asking.all)
      expect(answers.map(({ status }) => status).sort()).toEqual([
        ...Array(10).fill(201),
        ...Array(10).fill(422),
      ])
      expect(new Set(answers.filter(({ status }) => status === 422).map(({ body }) => body.code))).toEqual(
        new Set(['DAILY_LIMIT_EXCEEDED']),
      )
      expect(await money()).toEqual(['200.00', '200.00'])
    } finally {
      await control(other.name, 'stop')
    }
  })
})
