// The guarantees of a transfer, as its clients see them, on the whole system.
import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  type Answer,
  balanceOf,
  control,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  send,
  type Wallet,
} from './client.ts'

let alice: Person
let bob: Person
let carol: Person

beforeAll(async () => {
  ;[alice, bob, carol] = await Promise.all([
    makePerson('Alice Smith'),
    makePerson('Bob Brown'),
    makePerson('Carol'),
  ])
})

const currencies = [
  'EUR',
  'GBP',
  'CHF',
  'SEK',
  'NOK',
  'DKK',
  'PLN',
  'CZK',
  'HUF',
  'RON',
  'TRY',
  'INR',
  'BRL',
  'MXN',
  'ZAR',
  'AUD',
]
/** An unused currency for each test: a person has one wallet per currency. */
const freshCurrency = () => currencies.pop()!

const statuses = (answers: Answer[]) =>
  answers.reduce<Record<string, number>>((counts, { status, body }) => {
    const outcome = body.code ?? String(status)
    counts[outcome] = (counts[outcome] ?? 0) + 1
    return counts
  }, {})

describe('a transfer', () => {
  let from: Wallet
  let to: Wallet
  beforeAll(async () => {
    from = await openWallet(alice, 'USD', '100')
    to = await openWallet(bob, 'USD')
  })

  test('moves money and answers with what was moved, as each party may see it', async () => {
    const key = randomUUID()
    const sent = await alice.ask(
      'POST',
      '/v1/transfers',
      {
        toWalletCode: to.code.toLowerCase(),
        amount: '12.5',
        currency: 'USD',
        note: 'Lunch',
        metadata: { z: 1, a: [true] },
      },
      { 'idempotency-key': key, 'step-up-token': alice.stepUp },
    )
    expect(sent.status).toBe(201)
    expect(sent.headers.get('location')).toBe(`/v1/transfers/${sent.body.id}`)
    expect(sent.body).toMatchObject({
      reference: expect.stringMatching(/^TXN-[0-9A-HJKMNP-TV-Z]{12}$/),
      type: 'transfer',
      status: 'completed',
      from: { walletId: from.id, walletCode: from.code, name: 'Alice Smith' },
      to: { walletId: to.id, walletCode: to.code, name: 'Bob B.' },
      amount: '12.50',
      currency: 'USD',
      note: 'Lunch',
      metadata: { z: 1, a: [true] },
      rejection: null,
      final: true,
      reversedAmount: '0.00',
      balanceAfter: '87.50',
    })
    for (const path of [sent.body.id, `by-reference/${sent.body.reference}`, `by-idempotency-key/${key}`]) {
      expect((await alice.ask('GET', `/v1/transfers/${path}`)).body).toEqual(sent.body)
    }
    const seen = await bob.ask('GET', `/v1/transfers/${sent.body.id}`)
    expect(seen.body).toMatchObject({
      balanceAfter: '12.50',
      from: { name: 'Alice S.' },
      to: { name: 'Bob Brown' },
    })
    const { body: entries } = await bob.ask('GET', `/v1/wallets/${to.id}/entries`)
    expect(entries.items).toMatchObject([
      {
        sequence: 1,
        transferId: sent.body.id,
        amount: '12.50',
        balanceAfter: '12.50',
        counterparty: { name: 'Alice S.' },
      },
    ])
  })

  test('M4: a refusal changes nothing and is final', async () => {
    const before = [await balanceOf(alice, from), await balanceOf(bob, to)]
    const key = randomUUID()
    const refused = await send(alice, to, '1000', key)
    expect([refused.status, refused.body.code, refused.body.final, refused.body.retryable]).toEqual([
      402,
      'INSUFFICIENT_BALANCE',
      true,
      false,
    ])
    expect([await balanceOf(alice, from), await balanceOf(bob, to)]).toEqual(before)

    const again = await send(alice, to, '1000', key)
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([402, 'true'])
    expect(again.body).toEqual({ ...refused.body, requestId: again.body.requestId })
    expect((await alice.ask('GET', `/v1/transfers/by-idempotency-key/${key}`)).body).toMatchObject({
      status: 'rejected',
      rejection: { code: 'INSUFFICIENT_BALANCE' },
    })
  })

  test('M4: each refusal of the ledger has its code and moves nothing', async () => {
    const euros = await openWallet(bob, 'JPY')
    const before = await balanceOf(alice, from)
    const self = await send(alice, from, '1')
    expect([self.status, self.body.code]).toEqual([422, 'SELF_TRANSFER'])
    const mismatch = await alice.ask(
      'POST',
      '/v1/transfers',
      { fromWalletId: from.id, toWalletId: euros.id, amount: '1', currency: 'USD' },
      { 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp },
    )
    expect([mismatch.status, mismatch.body.code]).toEqual([422, 'CURRENCY_MISMATCH'])
    expect(await balanceOf(alice, from)).toBe(before)
  })

  test.each([
    ['no recipient', {}, 422, 'VALIDATION_ERROR'],
    [
      'both ways to name one',
      { toWalletId: randomUUID(), toWalletCode: 'PW-00000000' },
      422,
      'VALIDATION_ERROR',
    ],
    ['an unknown wallet', { toWalletId: randomUUID() }, 404, 'RECIPIENT_NOT_FOUND'],
    ['a code with a typing error', { toWalletCode: 'PW-00000001' }, 404, 'RECIPIENT_NOT_FOUND'],
    ['an unknown field', { toWalletId: randomUUID(), colour: 'red' }, 422, 'VALIDATION_ERROR'],
    ['an unknown currency', { toWalletId: randomUUID(), currency: 'XXX' }, 422, 'VALIDATION_ERROR'],
    ['a long note', { toWalletId: randomUUID(), note: 'x'.repeat(256) }, 422, 'VALIDATION_ERROR'],
    [
      'large metadata',
      { toWalletId: randomUUID(), metadata: { a: 'x'.repeat(5_000) } },
      422,
      'VALIDATION_ERROR',
    ],
    [
      "somebody else's wallet",
      { fromWalletId: randomUUID(), toWalletId: randomUUID() },
      404,
      'WALLET_NOT_FOUND',
    ],
  ])('%s is refused here: not stored, and the key is free', async (_what, body, status, code) => {
    const key = randomUUID()
    const headers = { 'idempotency-key': key, 'step-up-token': alice.stepUp }
    const refused = await alice.ask(
      'POST',
      '/v1/transfers',
      { amount: '0.01', currency: 'USD', ...body },
      headers,
    )
    expect([refused.status, refused.body.code, refused.body.final]).toEqual([status, code, false])
    expect((await send(alice, to, '0.01', key)).status).toBe(201)
  })

  test('neither PIN nor step-up, a forged token, and a large amount without the PIN are refused', async () => {
    const without = await send(alice, to, '1', randomUUID(), { headers: { 'step-up-token': '' } })
    expect([without.status, without.body.code]).toEqual([403, 'STEP_UP_INVALID'])
    const neither = await alice.ask(
      'POST',
      '/v1/transfers',
      { toWalletId: to.id, amount: '1', currency: 'USD' },
      { 'idempotency-key': randomUUID() },
    )
    expect([neither.status, neither.body.code]).toEqual([403, 'PIN_REQUIRED'])
    const foreign = await send(alice, to, '1', randomUUID(), { headers: { 'step-up-token': bob.stepUp } })
    expect([foreign.status, foreign.body.code]).toEqual([403, 'STEP_UP_INVALID'])
    const large = await send(alice, to, '1000.01')
    expect([large.status, large.body.code]).toEqual([403, 'PIN_REQUIRED'])
    const withPin = await send(alice, to, '1000.01', randomUUID(), { body: { pin: '482915' } })
    expect([withPin.status, withPin.body.code]).toEqual([402, 'INSUFFICIENT_BALANCE'])
  })

  test('X2: the client that does not wait is told where to ask', async () => {
    const key = randomUUID()
    // The ledger is stopped, because on a busy machine it may decide before the answer is sent.
    await control('ledger', 'SIGSTOP')
    const accepted = await send(alice, to, '0.10', key, { headers: { prefer: 'respond-async' } }).finally(
      () => control('ledger', 'SIGCONT'),
    )
    expect(accepted.status).toBe(202)
    expect(accepted.body).toMatchObject({ status: 'pending', final: false, amount: '0.10' })
    await expect
      .poll(async () => (await alice.ask('GET', accepted.headers.get('location')!)).body.status)
      .toBe('completed')
  })
})

describe('X1, X3: one key is one transfer', () => {
  test.each([5, 100])('%d at once with one key: one effect, one answer', async times => {
    const currency = freshCurrency()
    const from = await openWallet(alice, currency, '50')
    const to = await openWallet(bob, currency)
    const key = randomUUID()
    const answers = await Promise.all(Array.from({ length: times }, () => send(alice, to, '20', key)))
    for (const { status, body } of answers) expect([status, body]).toEqual([201, answers[0]!.body])
    expect([await balanceOf(alice, from), await balanceOf(bob, to)]).toEqual(['30.00', '20.00'])

    const later = await send(alice, to, '20.00', key)
    expect([later.status, later.headers.get('idempotency-replayed')]).toEqual([201, 'true'])
    expect(later.body).toEqual(answers[0]!.body)
  })

  test('another body under the key is refused, no matter what differs, and at the same time too', async () => {
    const currency = freshCurrency()
    const from = await openWallet(alice, currency, '50')
    const to = await openWallet(bob, currency)
    const other = await openWallet(carol, currency)
    const key = randomUUID()
    expect((await send(alice, to, '20', key)).status).toBe(201)
    const changed = [
      await send(alice, to, '20.01', key),
      await send(alice, other, '20', key),
      await send(alice, to, '20', key, { body: { note: 'x' } }),
      await send(alice, to, '20', key, { body: { metadata: {} } }),
    ]
    for (const { status, body } of changed)
      expect([status, body.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])

    const race = randomUUID()
    const racing = await Promise.all(
      Array.from({ length: 20 }, (_, index) => send(alice, index % 2 === 0 ? to : other, '1', race)),
    )
    const won = racing.find(({ status }) => status === 201)!.body
    for (const [index, { status, body }] of racing.entries()) {
      const mine = (index % 2 === 0 ? to : other).id === won.to.walletId
      expect([status, mine ? body : body.code]).toEqual(mine ? [201, won] : [422, 'IDEMPOTENCY_KEY_REUSED'])
    }
    expect(await balanceOf(alice, from)).toBe('29.00')
  })

  test("another user's same key is another transfer", async () => {
    const currency = freshCurrency()
    const from = await openWallet(alice, currency, '50')
    const to = await openWallet(bob, currency, '50')
    const key = randomUUID()
    const [mine, theirs] = await Promise.all([send(alice, to, '20', key), send(bob, from, '5', key)])
    expect([mine.status, theirs.status]).toEqual([201, 201])
    expect(mine.body.id).not.toBe(theirs.body.id)
    expect([await balanceOf(alice, from), await balanceOf(bob, to)]).toEqual(['35.00', '65.00'])
  })

  test('a deposit and a transfer share the key space', async () => {
    const currency = freshCurrency()
    const from = await openWallet(alice, currency, '50')
    const to = await openWallet(bob, currency)
    const key = randomUUID()
    expect((await send(alice, to, '20', key)).status).toBe(201)
    const body = { walletId: from.id, amount: '20', currency }
    const deposit = await alice.ask('POST', '/v1/deposits', body, { 'idempotency-key': key })
    expect([deposit.status, deposit.body.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])
    expect(await balanceOf(alice, from)).toBe('30.00')
  })

  test.each([
    [undefined, 400, 'IDEMPOTENCY_KEY_REQUIRED'],
    ['', 400, 'IDEMPOTENCY_KEY_REQUIRED'],
    ['with space', 422, 'VALIDATION_ERROR'],
    ['x'.repeat(256), 422, 'VALIDATION_ERROR'],
    ['ä', 422, 'VALIDATION_ERROR'],
  ])('key %j: %d', async (key, status, code) => {
    const headers = {
      'step-up-token': alice.stepUp,
      ...(key === undefined ? {} : { 'idempotency-key': key }),
    }
    const body = { toWalletId: randomUUID(), amount: '1', currency: 'USD' }
    const answer = await alice.ask('POST', '/v1/transfers', body, headers)
    expect([answer.status, answer.body.code]).toEqual([status, code])
  })
})

describe('M1, M3: money is neither made nor lost', () => {
  test.each([2, 50])('%d transfers of the whole balance at once: exactly one completes', async times => {
    const currency = freshCurrency()
    const from = await openWallet(alice, currency, '100')
    const recipients = [await openWallet(bob, currency), await openWallet(carol, currency)]
    const answers = await Promise.all(
      Array.from({ length: times }, (_, index) => send(alice, recipients[index % 2]!, '100')),
    )
    expect(statuses(answers)).toEqual({ '201': 1, INSUFFICIENT_BALANCE: times - 1 })
    expect(await balanceOf(alice, from)).toBe('0.00')
    const received = [await balanceOf(bob, recipients[0]!), await balanceOf(carol, recipients[1]!)]
    expect(received.toSorted()).toEqual(['0.00', '100.00'])
  })

  test('P1: hundreds of opposite transfers at once all complete', async () => {
    const currency = freshCurrency()
    const [a, b] = [await openWallet(alice, currency, '500'), await openWallet(bob, currency, '500')]
    const answers = await Promise.all(
      Array.from({ length: 400 }, (_, index) => (index % 2 === 0 ? send(alice, b, '1') : send(bob, a, '1'))),
    )
    expect(statuses(answers)).toEqual({ '201': 400 })
    expect([await balanceOf(alice, a), await balanceOf(bob, b)]).toEqual(['500.00', '500.00'])
  })
})

describe('amounts are exact or refused', () => {
  test.each([
    ['USD', '0'],
    ['USD', '0.00'],
    ['USD', '-1'],
    ['USD', '1.001'],
    ['USD', '1e2'],
    ['USD', ' 1'],
    ['USD', '1 '],
    ['USD', '1 000'],
    ['USD', '9007199254740992'],
    ['USD', '90071992547409.91'],
    ['JPY', '1.0'],
    ['JPY', '9007199254740992'],
    ['KWD', '1.0001'],
    ['USD', 5],
    ['USD', null],
  ])('%s %j is refused by a rule that names the field', async (currency, amount) => {
    const body = { toWalletId: randomUUID(), amount, currency }
    const headers = { 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp }
    const answer = await alice.ask('POST', '/v1/transfers', body, headers)
    expect([answer.status, answer.body.code]).toEqual([422, 'VALIDATION_ERROR'])
    expect(answer.body.detail).toContain('amount')
  })

  test.each([
    ['ISK', '1000', '999', '1', '999', '1'],
    ['KWD', '1.001', '0.001', '1.000', '0.001', '1.000'],
    ['BHD', '10', '0.5', '9.500', '0.500', '9.500'],
  ])('%s: %s less %s leaves %s', async (currency, deposited, sent, left, sentShown, leftShown) => {
    const from = await openWallet(alice, currency, deposited)
    const to = await openWallet(bob, currency)
    const answer = await send(alice, to, sent)
    expect([answer.status, answer.body.amount, answer.body.balanceAfter]).toEqual([201, sentShown, leftShown])
    expect(await balanceOf(alice, from)).toBe(left)
  })

  test('the largest amount is taken, one more is refused, and a full wallet takes no more', async () => {
    const wallet = await openWallet(carol, 'CLP')
    // Above any limit that the settings can express, so staff raise the wallet's limits.
    const most = '9007199254740990'
    const raised = await (await makeStaff('admin')).ask(
      'PUT',
      `/v1/admin/wallets/${wallet.id}/limits/deposit`,
      {
        perTransaction: most,
        daily: most,
        monthly: most,
      },
    )
    expect(raised.status).toBe(200)
    const deposit = (amount: string) =>
      carol.ask(
        'POST',
        '/v1/deposits',
        { walletId: wallet.id, amount, currency: 'CLP' },
        { 'idempotency-key': randomUUID() },
      )
    expect((await deposit('9007199254740991')).status).toBe(422)
    expect((await deposit(most)).body.balanceAfter).toBe(most)
    // The external wallet of a partition has the same bound, so the payer's wallet must be in another partition.
    const payer = await (async () => {
      for (;;) {
        const person = await makePerson('Payer')
        const from = await openWallet(person, 'CLP')
        const body = { walletId: from.id, amount: '5', currency: 'CLP' }
        const paid = await person.ask('POST', '/v1/deposits', body, { 'idempotency-key': randomUUID() })
        if (paid.status === 201) return { person, from }
        expect(paid.body.code).toBe('BALANCE_LIMIT')
      }
    })()
    const over = await send(payer.person, wallet, '1')
    expect([over.status, over.body.code]).toEqual([422, 'BALANCE_LIMIT'])
    expect(await balanceOf(payer.person, payer.from)).toBe('5')
  })
})

test('lists go through all transfers once, newest first, in pages', async () => {
  const person = await makePerson('Dora Page')
  const [usd, eur] = [await openWallet(person, 'USD', '10'), await openWallet(person, 'EUR', '10')]
  const [toUsd, toEur] = [await openWallet(carol, 'USD'), await openWallet(carol, 'EUR')]
  const made: string[] = []
  for (let i = 0; i < 4; i++) {
    made.push((await send(person, toUsd, '1')).body.id)
    made.push((await send(person, toEur, '1')).body.id)
    made.push((await send(person, toUsd, '100')).body.transferId)
  }
  const listed: string[] = []
  let cursor: string | null = null
  do {
    const page: Answer = await person.ask('GET', `/v1/transfers?limit=3${cursor ? `&cursor=${cursor}` : ''}`)
    expect(page.status).toBe(200)
    expect(page.body.items.length).toBeLessThanOrEqual(3)
    listed.push(...page.body.items.map((item: { id: string }) => item.id))
    cursor = page.body.nextCursor
  } while (cursor)
  expect(listed.slice(0, 12)).toEqual(made.toReversed())
  expect(listed.length).toBe(14)

  const rejected = await person.ask('GET', '/v1/transfers?status=rejected&limit=100')
  expect(rejected.body.items.map((item: { id: string }) => item.id)).toEqual(
    made.filter((_, index) => index % 3 === 2).toReversed(),
  )
  const incoming = await person.ask('GET', '/v1/transfers?direction=in')
  expect(incoming.body.items.map((item: { type: string }) => item.type)).toEqual(['deposit', 'deposit'])
  for (const limit of ['0', '101', 'x']) {
    expect((await person.ask('GET', `/v1/transfers?limit=${limit}`)).status).toBe(422)
  }
  expect((await person.ask('GET', '/v1/transfers?cursor=bm8')).status).toBe(422)
  expect([await balanceOf(person, usd), await balanceOf(person, eur)]).toEqual(['6.00', '6.00'])
})
