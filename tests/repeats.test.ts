// A repeat gets the answer of the first request, even if the wallets, people and holds have changed since.
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { expectBooksToBeRight } from './books.ts'
import {
  type Answer,
  balanceOf,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  send,
  type Wallet,
} from './client.ts'

let admin: Person
let payer: Person
let payee: Person
let from: Wallet
let to: Wallet

beforeAll(async () => {
  admin = await makeStaff('admin', 'Ada Admin')
})
afterAll(expectBooksToBeRight)

/** Each test closes wallets or deactivates accounts, so each has its own people. */
const newPeople = async () => {
  ;[payer, payee] = await Promise.all([makePerson('Paula Payer'), makePerson('Petra Payee')])
  ;[from, to] = await Promise.all([openWallet(payer, 'USD', '10'), openWallet(payee, 'USD')])
}

const outcomeOf = ({ status, body }: Answer) => (status < 300 ? String(status) : `${status} ${body.code}`)
const close = async (person: Person, { id }: Wallet) =>
  expect(outcomeOf(await person.ask('DELETE', `/v1/wallets/${id}`))).toBe('200')
const sendBack = async () =>
  expect(outcomeOf(await send(payee, from, await balanceOf(payee, to)))).toBe('201')
const freezeByStaff = async ({ id }: Wallet) =>
  expect(outcomeOf(await admin.ask('POST', `/v1/admin/wallets/${id}/freeze`, { reason: 'Case 4711' }))).toBe(
    '200',
  )

/** Changes that may happen between a request for the whole balance and its repeat. */
const CHANGES: Record<string, () => Promise<unknown>> = {
  'the sender closed the wallet': () => close(payer, from),
  'the sender closed the wallet and opened another': async () => {
    await close(payer, from)
    await openWallet(payer, 'USD', '10')
  },
  'the recipient closed the wallet': async () => {
    await sendBack()
    await close(payee, to)
  },
  'the recipient closed the wallet and opened another': async () => {
    await sendBack()
    await close(payee, to)
    await openWallet(payee, 'USD')
  },
  'both wallets are frozen by staff': async () => {
    await freezeByStaff(from)
    await freezeByStaff(to)
  },
  'the recipient is deactivated': async () =>
    expect(
      outcomeOf(await admin.ask('POST', `/v1/admin/users/${payee.id}/deactivate`, { reason: 'Case 4711' })),
    ).toMatch(/^20/),
}

/** Repeats the request with the same body and key, then sends other bodies under the key. */
const expectSameAnswer = async (
  first: Answer,
  ask: (more?: Record<string, unknown>) => Promise<Answer>,
  others: Array<Record<string, unknown>>,
) => {
  const again = await ask()
  expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([first.status, 'true'])
  const { reversedAmount: _, status: __, ...stays } = first.body
  expect(again.body).toMatchObject(
    first.status < 300 ? stays : { ...first.body, requestId: again.body.requestId },
  )
  for (const other of others) expect(outcomeOf(await ask(other))).toBe('422 IDEMPOTENCY_KEY_REUSED')
}

describe.each(Object.entries(CHANGES))(
  'X3: after %s a repeat is answered with the first outcome',
  (_, change) => {
    test.each(['toWalletCode', 'toWalletId'] as const)('of a transfer that names %s', async named => {
      await newPeople()
      const key = randomUUID()
      const body = { [named]: named === 'toWalletCode' ? to.code : to.id, amount: '10', currency: 'USD' }
      const ask = (more = {}) =>
        payer.ask(
          'POST',
          '/v1/transfers',
          { ...body, ...more },
          { 'idempotency-key': key, 'step-up-token': payer.stepUp },
        )
      const first = await ask()
      expect(first.status).toBe(201)
      await change()
      await expectSameAnswer(first, ask, [
        { amount: '9' },
        { note: 'another' },
        { [named]: named === 'toWalletCode' ? from.code : from.id },
        { fromWalletId: to.id },
        { currency: 'EUR' },
      ])
      expect(outcomeOf(await ask({ fromWalletId: from.id }))).toBe('201')
    })

    test('of a reversal', async () => {
      await newPeople()
      const paid = await send(payer, to, '10')
      const key = randomUUID()
      const ask = (more = {}) =>
        admin.ask(
          'POST',
          `/v1/admin/transfers/${paid.body.id}/reversals`,
          { reason: 'Paid twice', amount: '4', ...more },
          { 'idempotency-key': key },
        )
      const first = await ask()
      expect(first.status).toBe(201)
      expect(outcomeOf(await send(payer, to, '4'))).toBe('201')
      await change()
      await expectSameAnswer(first, ask, [{ amount: '3' }, { reason: 'another' }])
    })
  },
)

test('X3: after the sender closed the wallet a refusal is still the first outcome', async () => {
  await newPeople()
  const key = randomUUID()
  const ask = (more = {}) => send(payer, to, '11', key, { body: more })
  const first = await ask()
  expect(outcomeOf(first)).toBe('402 INSUFFICIENT_BALANCE')
  expect(outcomeOf(await send(payer, to, '10'))).toBe('201')
  await close(payer, from)
  await expectSameAnswer(first, ask, [{ amount: '12' }])
})

test('X3: a hold, its capture and its release are the same after both wallets are closed', async () => {
  await newPeople()
  const headers = (key: string) => ({ 'idempotency-key': key, 'step-up-token': payer.stepUp })
  const place = (key: string, amount: string, more = {}) =>
    payer.ask('POST', '/v1/holds', { toWalletCode: to.code, amount, currency: 'USD', ...more }, headers(key))
  const captured = await place('hold-1', '6')
  const released = await place('hold-2', '4')
  expect([captured.status, released.status]).toEqual([201, 201])
  const capture = (key: string, amount = '6') =>
    payee.ask('POST', `/v1/holds/${captured.body.id}/capture`, { amount }, { 'idempotency-key': key })
  const release = (key: string) =>
    payee.ask('POST', `/v1/holds/${released.body.id}/void`, undefined, { 'idempotency-key': key })
  expect(outcomeOf(await capture('end-1'))).toBe('201')
  expect(outcomeOf(await release('end-2'))).toBe('200')
  expect(outcomeOf(await send(payer, to, '4'))).toBe('201')
  await close(payer, from)
  await openWallet(payer, 'USD')
  const outside = { walletId: to.id, amount: '10', currency: 'USD', destination: 'default' }
  const paidOut = await payee.ask('POST', '/v1/withdrawals', outside, {
    'idempotency-key': randomUUID(),
    'step-up-token': payee.stepUp,
  })
  expect(outcomeOf(paidOut)).toBe('201')
  await close(payee, to)

  for (const [key, amount] of [
    ['hold-1', '6'],
    ['hold-2', '4'],
  ] as const) {
    const again = await place(key, amount)
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([201, 'true'])
    expect(outcomeOf(await place(key, '5'))).toBe('422 IDEMPOTENCY_KEY_REUSED')
    expect(outcomeOf(await place(key, amount, { expiresInSeconds: 7_200 }))).toBe(
      '422 IDEMPOTENCY_KEY_REUSED',
    )
  }
  expect(outcomeOf(await capture('end-1'))).toBe('201')
  expect(outcomeOf(await capture('end-1', '5'))).toBe('422 IDEMPOTENCY_KEY_REUSED')
  expect(outcomeOf(await release('end-2'))).toBe('200')
})

describe('X3: payments after the wallet was closed', () => {
  const deposit = (key: string, source: string, more = {}) =>
    payer.ask(
      'POST',
      '/v1/deposits',
      { walletId: from.id, amount: '7', currency: 'USD', source, ...more },
      { 'idempotency-key': key, prefer: 'wait=5' },
    )
  const withdraw = (key: string, destination: string, more = {}) =>
    payer.ask(
      'POST',
      '/v1/withdrawals',
      { walletId: from.id, amount: '10', currency: 'USD', destination, ...more },
      { 'idempotency-key': key, 'step-up-token': payer.stepUp },
    )

  test('a deposit that failed has failed, one that is on its way is', async () => {
    await newPeople()
    const failed = await deposit('in-1', 'sandbox:fail')
    const pending = await deposit('in-2', 'sandbox:silent')
    expect([outcomeOf(failed), outcomeOf(pending)]).toEqual(['402 PAYMENT_FAILED', '202'])
    expect(outcomeOf(await send(payer, to, '10'))).toBe('201')
    await close(payer, from)
    await expectSameAnswer(failed, more => deposit('in-1', 'sandbox:fail', more), [{ amount: '8' }])
    const again = await deposit('in-2', 'sandbox:silent')
    expect([again.status, again.body.id]).toEqual([202, pending.body.id])
    expect(outcomeOf(await deposit('in-2', 'sandbox:silent', { amount: '8' }))).toBe(
      '422 IDEMPOTENCY_KEY_REUSED',
    )
  })

  test('a deposit and a withdrawal that were done are', async () => {
    await newPeople()
    const out = await withdraw('out-1', 'default')
    const booked = await deposit('in-3', 'default')
    expect([outcomeOf(out), outcomeOf(booked)]).toEqual(['201', '201'])
    expect(outcomeOf(await send(payer, to, '7'))).toBe('201')
    await vi.waitFor(() => close(payer, from), { timeout: 10_000 })
    await openWallet(payer, 'USD')
    await expectSameAnswer(booked, more => deposit('in-3', 'default', more), [{ amount: '8' }])
    await expectSameAnswer(out, more => withdraw('out-1', 'default', more), [{ destination: 'elsewhere' }])
  })
})

test('X3: a change of a wallet and of a limit is the same after the wallet was closed', async () => {
  await newPeople()
  const change = (what: string, key: string) =>
    payer.ask('POST', `/v1/wallets/${from.id}/${what}`, {}, { 'idempotency-key': key })
  const tighten = (daily: string) =>
    payer.ask('PUT', '/v1/limits/send', { walletId: from.id, daily }, { 'idempotency-key': 'limit-1' })
  const closeOnce = () =>
    payer.ask('DELETE', `/v1/wallets/${from.id}`, undefined, { 'idempotency-key': 'close-1' })
  expect(outcomeOf(await change('freeze', 'freeze-1'))).toBe('200')
  expect(outcomeOf(await change('unfreeze', 'unfreeze-1'))).toBe('200')
  expect(outcomeOf(await tighten('100'))).toBe('200')
  expect(outcomeOf(await send(payer, to, '10'))).toBe('201')
  expect(outcomeOf(await closeOnce())).toBe('200')
  expect(outcomeOf(await change('freeze', 'freeze-1'))).toBe('200')
  expect(outcomeOf(await change('unfreeze', 'unfreeze-1'))).toBe('200')
  expect(outcomeOf(await tighten('100'))).toBe('200')
  expect(outcomeOf(await tighten('99'))).toBe('422 IDEMPOTENCY_KEY_REUSED')
  expect(outcomeOf(await closeOnce())).toBe('200')
  expect(outcomeOf(await change('unfreeze', 'freeze-1'))).toBe('422 IDEMPOTENCY_KEY_REUSED')
})
