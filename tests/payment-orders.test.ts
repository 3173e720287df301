// An order to the provider is ambiguous until the provider reports its outcome; a key belongs to one request across all
// routes.
import { createHmac, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import { type Answer, ask, makePerson, openWallet, type Person, PIN, send, type Wallet } from './client.ts'

let sql: Database
let secret: string
let alice: Person
let bob: Person
let wallet: Wallet
let bobs: Wallet

beforeAll(() => {
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test', maxConnections: 2 })
  secret = JSON.parse(
    readFileSync(join(inject('system').dataDir, 'keys', 'provider-secret.json'), 'utf8'),
  ).secret
})
afterAll(() => sql.end())
beforeEach(async () => {
  alice = await makePerson('Alice Smith')
  bob = await makePerson('Bob Brown')
  wallet = await openWallet(alice, 'USD', '100.00')
  bobs = await openWallet(bob, 'USD')
})

const until = (check: () => Promise<void>) => vi.waitFor(check, { timeout: 30_000, interval: 100 })

const pay = (
  kind: 'deposits' | 'withdrawals',
  method: string,
  key: string = randomUUID(),
  prefer = 'wait=10',
): Promise<Answer> =>
  alice.ask(
    'POST',
    `/v1/${kind}`,
    {
      walletId: wallet.id,
      amount: '3.00',
      currency: 'USD',
      ...(kind === 'deposits' ? { source: method } : { destination: method }),
    },
    { 'idempotency-key': key, 'step-up-token': alice.stepUp, prefer },
  )

const balances = async () => {
  const { body } = await alice.ask('GET', `/v1/wallets/${wallet.id}/balance`)
  return [body.balance, body.available]
}

const callback = (body: object) => {
  const text = JSON.stringify(body)
  const seconds = Math.floor(Date.now() / 1_000)
  const mac = createHmac('sha256', secret).update(`${seconds}.${text}`).digest('hex')
  return ask('POST', '/v1/provider/callbacks', {
    body: text,
    headers: { 'provider-signature': `t=${seconds},v1=${mac}` },
  })
}

const rowOf = async (id: string) => {
  const [row] = await sql<{ status: string; failureCode: string | null }[]>`
    select status, failure_code as "failureCode" from gateway.payments where id = ${id}`
  return row
}

describe('the provider took an order and did not answer, and refuses the next one', () => {
  test('X2: a payout is paid out once, and the money is not given back', async () => {
    const { body } = await pay('withdrawals', 'sandbox:forgets')
    await until(async () =>
      expect((await alice.ask('GET', `/v1/transfers/${body.id}`)).body.status).toBe('completed'),
    )
    expect(await balances()).toEqual(['97.00', '97.00'])
  })

  test('X2: a deposit is booked', async () => {
    const key = randomUUID()
    await pay('deposits', 'sandbox:forgets', key)
    const again = await pay('deposits', 'sandbox:forgets', key)
    expect([again.status, again.body.status]).toEqual([201, 'completed'])
    expect(await balances()).toEqual(['103.00', '103.00'])
  })
})

describe('a payout is ordered only while its money is held', () => {
  /** A withdrawal that the provider refused and whose hold was released, reset as if its order was never attempted. */
  const givenBack = async (status: 'created' | 'ordering') => {
    const taken = await pay('withdrawals', 'bank')
    // The provider refuses this order, so the payment is unknown to it.
    expect((await pay('withdrawals', 'sandbox:typo')).status).toBe(422)
    const [{ id }] = await sql<[{ id: string }]>`
      select id from gateway.payments where user_id = ${alice.id} and status = 'failed'`
    await until(async () => expect(await balances()).toEqual(['97.00', '97.00']))
    // With the method of the first payment, the provider would accept the order and pay.
    await sql`
      update gateway.payments set status = ${status}, order_attempts = 0, ordered_at = null, failure_code = null,
        failure_reason = null, provider_reference = null, done_at = null, next_look_at = now(),
        method = (select method from gateway.payments where id = ${taken.body.id})
      where id = ${id}`
    return id
  }

  test.each(['created', 'ordering'] as const)(
    'M1: a %s one whose hold was voided moves nothing',
    async status => {
      const id = await givenBack(status)
      await until(async () =>
        expect(await rowOf(id)).toEqual({ status: 'failed', failureCode: expect.any(String) }),
      )
      expect((await alice.ask('GET', `/v1/transfers/${id}`)).body.status).not.toBe('completed')
      expect(await balances()).toEqual(['97.00', '97.00'])
    },
  )
})

test('X2: an abandoned deposit is cancelled at the provider and ends as expired', async () => {
  const { body } = await pay('deposits', 'sandbox:silent', randomUUID(), 'wait=1')
  await until(async () => expect((await rowOf(body.id))?.status).toBe('pending'))
  await sql`
    update gateway.payments set requested_at = now() - interval '2 days', next_look_at = now() where id = ${body.id}`
  await until(async () =>
    expect(await rowOf(body.id)).toEqual({ status: 'failed', failureCode: 'REQUEST_EXPIRED' }),
  )
  expect((await alice.ask('GET', `/v1/transfers/${body.id}`)).body).toMatchObject({
    status: 'rejected',
    final: true,
    rejection: { code: 'REQUEST_EXPIRED' },
  })
})

test('X2: a deposit that was given up before it was ordered is never ordered', async () => {
  const id = randomUUID()
  await sql`
    insert into gateway.payments (id, kind, user_id, wallet_id, amount, currency, method, fingerprint, requested_at,
      updated_at, expires_at)
    values (${id}, 'deposit', ${alice.id}, ${wallet.id}, 300, 'USD', '\\x00', ${Buffer.alloc(16, 7)},
      now() - interval '10 minutes', now(), now() - interval '5 minutes')`
  await until(async () =>
    expect(await rowOf(id)).toEqual({ status: 'failed', failureCode: 'REQUEST_EXPIRED' }),
  )
})

describe('X3: one key is one request over all money routes', () => {
  test('a pending deposit holds its key', async () => {
    const key = randomUUID()
    const pending = await pay('deposits', 'sandbox:delay', key, 'wait=0')
    expect(pending.status).toBe(202)
    const other = await send(alice, bobs, '7.00', key)
    expect([other.status, other.body.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])
    const done = await pay('deposits', 'sandbox:delay', key)
    expect([done.status, done.body.id]).toEqual([201, pending.body.id])
    expect(await balances()).toEqual(['103.00', '103.00'])
  })

  test('a deposit, a withdrawal and a transfer at once: one wins, and the others move nothing', async () => {
    for (let round = 0; round < 5; round++) {
      const key = randomUUID()
      const before = Number((await balances())[0])
      const answers = await Promise.all([
        pay('deposits', 'card', key),
        pay('withdrawals', 'bank', key),
        send(alice, bobs, '7.00', key),
      ])
      const won = answers.flatMap(({ status }, index) => (status === 201 ? [index] : []))
      expect(won.length).toBe(1)
      for (const [index, { status, body }] of answers.entries())
        if (index !== won[0]) expect([status, body.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])
      expect(Number((await balances())[0])).toBe(before + [3, -3, -7][won[0]!]!)
    }
  })

  test('the key of a capture is refused to a deposit and a withdrawal', async () => {
    const carol = await makePerson('Carol Clark')
    const carols = await openWallet(carol, 'USD', '50.00')
    const hold = await carol.ask(
      'POST',
      '/v1/holds',
      { toWalletId: wallet.id, amount: '5.00', currency: 'USD', expiresInSeconds: 600, pin: PIN },
      { 'idempotency-key': randomUUID() },
    )
    expect([hold.status, carols.currency]).toEqual([201, 'USD'])
    const key = randomUUID()
    const captured = await alice.ask(
      'POST',
      `/v1/holds/${hold.body.id}/capture`,
      {},
      { 'idempotency-key': key },
    )
    expect(captured.status).toBe(201)
    for (const kind of ['deposits', 'withdrawals'] as const) {
      const answer = await pay(kind, 'card', key)
      expect([answer.status, answer.body.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])
    }
  })
})

test.each([
  ['a NUL', { failureReason: 'x\u0000' }],
  ['501 letters', { failureReason: 'x'.repeat(501) }],
  ['null', { failureReason: null }],
  ['one decimal', { amount: '3.0' }],
  ['no reference', { providerReference: null }],
])('X2: what the provider says is heard, with %s in it', async (_what, more) => {
  const { body } = await pay('withdrawals', 'sandbox:silent', randomUUID(), 'wait=1')
  await until(async () => expect((await rowOf(body.id))?.status).toBe('pending'))
  const state = { id: body.id, kind: 'withdrawal', status: 'failed', amount: '3.00', currency: 'USD' }
  expect((await callback({ ...state, providerReference: 'test', ...more })).status).toBe(204)
  await until(async () => expect(await balances()).toEqual(['100.00', '100.00']))
})

test('money is not sent to an account that is deactivated', async () => {
  await sql`update gateway.users set disabled_at = now(), disabled_source = 'staff' where id = ${bob.id}`
  const answer = await send(alice, bobs, '1.00')
  expect([answer.status, answer.body.code]).toEqual([409, 'RECIPIENT_UNAVAILABLE'])
  expect(await balances()).toEqual(['100.00', '100.00'])
})

test.each(['deposits', 'withdrawals'] as const)('a blank method of %s is refused', async kind => {
  const answer = await pay(kind, ' ')
  expect([answer.status, answer.body.code]).toEqual([422, 'VALIDATION_ERROR'])
})

test('X1: of ten openings of a wallet at once one opens it, and nine are told that it exists', async () => {
  const answers = await Promise.all(
    Array.from({ length: 10 }, () => alice.ask('POST', '/v1/wallets', { currency: 'EUR' })),
  )
  expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array(9).fill(409)])
  expect(new Set(answers.map(({ body }) => body.walletId ?? body.id)).size).toBe(1)
})
