// The outcomes of two operations that meet in one wallet, for the cases that no other file tests: docs/operations.md
// has the table.
import { createHmac, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, inject, test, vi } from 'vitest'
import { expectBooksToBeRight } from './books.ts'
import {
  type Answer,
  ask,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  send,
  type Wallet,
} from './client.ts'

const CURRENCIES =
  'USD EUR GBP CHF SEK NOK DKK PLN CZK HUF RON TRY INR BRL MXN ZAR AUD CAD NZD SGD HKD'.split(' ')
const soon = { timeout: 20_000, interval: 50 }

let alice: Person
let bob: Person
let admin: Person
let secret: string
/** Alice's wallet, which holds 100, and Bob's; in a new currency per test: a person has one wallet per currency. */
let wallet: Wallet
let theirs: Wallet

beforeAll(async () => {
  const key = join(inject('system').dataDir, 'keys', 'provider-secret.json')
  secret = JSON.parse(readFileSync(key, 'utf8')).secret
  ;[alice, bob, admin] = await Promise.all([
    makePerson('Alice Smith'),
    makePerson('Bob Brown'),
    makeStaff('admin'),
  ])
})
afterAll(expectBooksToBeRight)
beforeEach(async () => {
  const currency = CURRENCIES.pop()!
  ;[wallet, theirs] = await Promise.all([openWallet(alice, currency, '100'), openWallet(bob, currency)])
})

const outcomeOf = ({ status, body }: Answer): string => (status < 300 ? 'done' : body.code)
const keyed = (person: Person, headers = {}) => ({
  'idempotency-key': randomUUID(),
  'step-up-token': person.stepUp,
  ...headers,
})
const money = (amount: string) => ({ amount, currency: wallet.currency })

const deposit = (amount: string, source = 'card') =>
  alice.ask(
    'POST',
    '/v1/deposits',
    { walletId: wallet.id, ...money(amount), source },
    keyed(alice, source === 'card' ? {} : { prefer: 'wait=0' }),
  )
const withdraw = (amount: string, destination = 'bank') =>
  alice.ask(
    'POST',
    '/v1/withdrawals',
    { walletId: wallet.id, ...money(amount), destination },
    keyed(alice, destination === 'sandbox:silent' ? { prefer: 'wait=0' } : {}),
  )
const hold = (amount: string, from = alice, to = theirs) =>
  from.ask('POST', '/v1/holds', { toWalletId: to.id, ...money(amount) }, keyed(from))
const capture = (id: string, amount?: string) =>
  bob.ask('POST', `/v1/holds/${id}/capture`, amount ? { amount } : undefined, keyed(bob))
const voidHold = (id: string) => bob.ask('POST', `/v1/holds/${id}/void`)
const reverse = (id: string, amount?: string) =>
  admin.ask('POST', `/v1/admin/transfers/${id}/reversals`, { reason: 'Case 4711', amount }, keyed(admin))
const freeze = (whose = wallet) => alice.ask('POST', `/v1/wallets/${whose.id}/freeze`)
const unfreeze = () => alice.ask('POST', `/v1/wallets/${wallet.id}/unfreeze`)
const close = (person = alice, whose = wallet) => person.ask('DELETE', `/v1/wallets/${whose.id}`)
const limit = (action: string, limits: object) =>
  alice.ask('PUT', `/v1/limits/${action}`, { walletId: wallet.id, ...limits })
const usedToday = async (action: string): Promise<string> => {
  const { body } = await alice.ask('GET', `/v1/limits?walletId=${wallet.id}`)
  return body.items.find((item: { action: string }) => item.action === action).daily.used
}

/** Balance and available amount. */
const funds = async (person = alice, whose = wallet): Promise<[string, string]> => {
  const { body } = await person.ask('GET', `/v1/wallets/${whose.id}`)
  return [body.balance, body.available]
}
const untilFunds = (balance: string, available = balance) =>
  vi.waitFor(async () => expect(await funds()).toEqual([balance, available]), soon)

/** Sends the provider's callback for a `sandbox:silent` payment. */
const callback = async (id: string, kind: 'deposit' | 'withdrawal', amount: string, status = 'succeeded') => {
  const body = JSON.stringify({
    ...{ id, kind, status, ...money(amount), providerReference: 'test' },
    ...(status === 'succeeded' ? {} : { failureReason: 'The account is closed' }),
  })
  const seconds = Math.floor(Date.now() / 1_000)
  const mac = createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')
  const headers = { 'provider-signature': `t=${seconds},v1=${mac}` }
  expect((await ask('POST', '/v1/provider/callbacks', { body, headers })).status).toBe(204)
}
/** A deposit that the provider has accepted and does not report on. */
const awaitedDeposit = async (amount: string): Promise<string> => {
  const { status, body } = await deposit(amount, 'sandbox:silent')
  expect(status).toBe(202)
  return body.id
}
/** A payout that the provider has accepted, and whose money is held. */
const awaitedPayout = async (amount: string): Promise<string> => {
  const [balance, available] = await funds()
  const { status, body } = await withdraw(amount, 'sandbox:silent')
  expect(status).toBe(202)
  await untilFunds(balance, (Number(available) - Number(amount)).toFixed(2))
  return body.id
}
const inSuspense = (id: string) =>
  vi.waitFor(async () => {
    const { body } = await alice.ask('GET', `/v1/transfers/${id}`)
    // `to` is null: the money is in a suspense wallet, which has no owner.
    expect([body.status, body.to]).toEqual(['in_suspense', null])
  }, soon)
const heldFor = async (amount: string): Promise<string> => {
  const { status, body } = await hold(amount)
  expect(status).toBe(201)
  return body.id
}

test('transfers, holds and withdrawals of the whole balance at once: one gets it', async () => {
  const answers = await Promise.all(
    Array.from({ length: 4 }, () => [send(alice, theirs, '100'), hold('100'), withdraw('100')]).flat(),
  )
  expect(answers.map(outcomeOf).sort()).toEqual([...Array(11).fill('INSUFFICIENT_BALANCE'), 'done'])
  expect((await funds())[1]).toBe('0.00')
})

test('transfers, holds and withdrawals of parts at once: none takes what another has', async () => {
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => [send(alice, theirs, '9'), hold('9'), withdraw('9')]).flat(),
  )
  expect(answers.map(outcomeOf).sort()).toEqual([
    ...Array(4).fill('INSUFFICIENT_BALANCE'),
    ...Array(11).fill('done'),
  ])
  expect((await funds())[1]).toBe('1.00')
})

test('money that is being brought in is there once it is confirmed, for all that leaves', async () => {
  const id = await awaitedDeposit('50')
  for (const answer of [await send(alice, theirs, '101'), await hold('101'), await withdraw('101')])
    expect(outcomeOf(answer)).toBe('INSUFFICIENT_BALANCE')
  await callback(id, 'deposit', '50.00')
  await untilFunds('150.00')
  for (const answer of [await send(alice, theirs, '50'), await hold('50'), await withdraw('50')])
    expect(outcomeOf(answer)).toBe('done')
  expect(await funds()).toEqual(['50.00', '0.00'])
})

test('deposits come in beside all that leaves, at once', async () => {
  const work = Array.from({ length: 4 }, () => [
    deposit('10'),
    send(alice, theirs, '5'),
    hold('5'),
    withdraw('5'),
  ])
  expect(new Set((await Promise.all(work.flat())).map(outcomeOf))).toEqual(new Set(['done']))
  expect(await funds()).toEqual(['100.00', '80.00'])
})

test('a deposit that is not confirmed cannot be given back, and then it can', async () => {
  const id = await awaitedDeposit('50')
  expect(outcomeOf(await reverse(id))).toBe('TRANSFER_NOT_FOUND')
  await callback(id, 'deposit', '50.00')
  await untilFunds('150.00')
  expect(outcomeOf(await reverse(id, '20'))).toBe('done')
  expect(await funds()).toEqual(['130.00', '130.00'])
})

test("a freeze of one's own keeps nothing from coming in, nor what is being paid out from leaving", async () => {
  const [coming, leaving, failing] = [
    await awaitedDeposit('50'),
    await awaitedPayout('30'),
    await awaitedPayout('20'),
  ]
  expect(outcomeOf(await freeze())).toBe('done')
  expect(outcomeOf(await withdraw('1'))).toBe('WALLET_FROZEN')
  await callback(coming, 'deposit', '50.00')
  await callback(leaving, 'withdrawal', '30.00')
  await callback(failing, 'withdrawal', '20.00', 'failed')
  await untilFunds('120.00')
  // Nor does a freeze stop the return of a payout.
  await callback(leaving, 'withdrawal', '30.00', 'returned')
  await untilFunds('150.00')
  expect((await alice.ask('GET', `/v1/wallets/${wallet.id}`)).body.status).toBe('frozen')
})

test('a wallet is not closed while money is held for a payout; what comes for a closed one waits in suspense', async () => {
  const [paid, coming] = [await awaitedPayout('100'), await awaitedDeposit('50')]
  expect(outcomeOf(await close())).toBe('WALLET_HAS_BALANCE')
  await callback(paid, 'withdrawal', '100.00')
  await untilFunds('0.00')
  // A pending deposit is not in the wallet yet, and does not prevent closing.
  expect(outcomeOf(await close())).toBe('done')
  expect(outcomeOf(await deposit('1'))).toBe('WALLET_CLOSED')
  await callback(coming, 'deposit', '50.00')
  await inSuspense(coming)
  await callback(paid, 'withdrawal', '100.00', 'returned')
  await vi.waitFor(async () => {
    const { body } = await alice.ask('GET', `/v1/transfers/${paid}`)
    expect([body.status, body.final, body.reversedAmount]).toEqual(['in_suspense', false, '0.00'])
  }, soon)
  for (const [filter, listed] of [
    ['', ['in_suspense']],
    ['&status=completed', []],
    ['&status=reversed', []],
  ] as const) {
    const { body } = await alice.ask('GET', `/v1/transfers?type=withdrawal${filter}`)
    const mine = body.items.filter((item: { id: string }) => item.id === paid)
    expect([filter, mine.map((item: { status: string }) => item.status)]).toEqual([filter, listed])
  }
  expect(await funds()).toEqual(['0.00', '0.00'])
})

test('a limit of deposits holds against new ones, not against one that is being brought in', async () => {
  const id = await awaitedDeposit('50')
  expect(outcomeOf(await limit('deposit', { perTransaction: '0' }))).toBe('done')
  expect(outcomeOf(await deposit('1'))).toBe('PER_TRANSACTION_LIMIT_EXCEEDED')
  await callback(id, 'deposit', '50.00')
  await untilFunds('150.00')
  expect(await usedToday('deposit')).toBe('150.00')
})

test('what is being paid out is not given back; what failed to be is', async () => {
  const received = await send(alice, theirs, '60')
  const back = await send(bob, wallet, '60')
  expect([received.status, back.status]).toEqual([201, 201])
  const payout = await awaitedPayout('50')
  // Of the balance of 100 only 50 are available.
  expect(outcomeOf(await reverse(back.body.id))).toBe('INSUFFICIENT_BALANCE')
  expect(outcomeOf(await reverse(payout))).toBe('TRANSFER_NOT_FOUND')
  await callback(payout, 'withdrawal', '50.00', 'failed')
  await untilFunds('100.00')
  expect(outcomeOf(await reverse(payout))).toBe('TRANSFER_NOT_FOUND')
  expect(outcomeOf(await reverse(back.body.id))).toBe('done')
  expect(await funds()).toEqual(['40.00', '40.00'])
})

test('a limit holds against holds and withdrawals when they begin; what came to nothing is given back to it', async () => {
  expect(outcomeOf(await limit('send', { daily: '50' }))).toBe('done')
  expect(outcomeOf(await limit('withdrawal', { daily: '30' }))).toBe('done')
  const [taken, released] = [await heldFor('30'), await heldFor('20')]
  for (const answer of [await hold('0.01'), await send(alice, theirs, '0.01')])
    expect(outcomeOf(answer)).toBe('DAILY_LIMIT_EXCEEDED')
  const payout = await awaitedPayout('30')
  expect(outcomeOf(await withdraw('0.01'))).toBe('DAILY_LIMIT_EXCEEDED')

  // A hold placed earlier can be captured, however low the limit is by then.
  expect(outcomeOf(await limit('send', { perTransaction: '1', daily: '40' }))).toBe('done')
  expect(outcomeOf(await capture(taken, '25'))).toBe('done')
  expect(outcomeOf(await voidHold(released))).toBe('done')
  expect(await usedToday('send')).toBe('25.00')
  await callback(payout, 'withdrawal', '30.00', 'failed')
  await untilFunds('75.00')
  expect(await usedToday('withdrawal')).toBe('0.00')
})

test('a limit that is set while money leaves: after its answer nothing above it does', async () => {
  const [sent, changed] = await Promise.all([
    Promise.all(Array.from({ length: 10 }, () => send(alice, theirs, '2'))),
    limit('send', { perTransaction: '1' }).then(
      async answer => [answer, await send(alice, theirs, '2')] as const,
    ),
  ])
  expect(changed.map(outcomeOf)).toEqual(['done', 'PER_TRANSACTION_LIMIT_EXCEEDED'])
  const done = sent.filter(({ status }) => status === 201).length
  expect(new Set([...sent.map(outcomeOf), 'done', 'PER_TRANSACTION_LIMIT_EXCEEDED']).size).toBe(2)
  expect((await funds())[0]).toBe((100 - 2 * done).toFixed(2))
})

test('a recipient who has closed the wallet captures nothing; the hold is let go, and the money is free', async () => {
  const id = await heldFor('40')
  expect(outcomeOf(await close(bob, theirs))).toBe('done')
  expect(outcomeOf(await capture(id))).toBe('RECIPIENT_UNAVAILABLE')
  expect(outcomeOf(await hold('1'))).toBe('RECIPIENT_UNAVAILABLE')
  expect(await funds()).toEqual(['100.00', '60.00'])
  expect(outcomeOf(await voidHold(id))).toBe('done')
  expect(await funds()).toEqual(['100.00', '100.00'])
})

test('no limit stops a reversal, and it gives nothing back to the limits', async () => {
  const sent = await send(alice, theirs, '60')
  expect(await usedToday('send')).toBe('60.00')
  const back = await send(bob, wallet, '60')
  expect(outcomeOf(await limit('send', { perTransaction: '0' }))).toBe('done')
  // From a wallet whose limit allows no sends, and into one whose limit is partly used.
  expect(outcomeOf(await reverse(back.body.id))).toBe('done')
  expect(outcomeOf(await reverse(sent.body.id))).toBe('done')
  expect(await usedToday('send')).toBe('60.00')
  expect(await funds()).toEqual(['100.00', '100.00'])
})

test('a freeze and a close at once: one of them, and the other is told why', async () => {
  expect(outcomeOf(await send(alice, theirs, '100'))).toBe('done')
  const answers = (await Promise.all([freeze(), close()])).map(outcomeOf)
  expect([
    ['done', 'WALLET_FROZEN'],
    ['WALLET_ALREADY_CLOSED', 'done'],
  ]).toContainEqual(answers)
})

test('limits change while a wallet is frozen, and hold when it is not any more', async () => {
  expect(outcomeOf(await freeze())).toBe('done')
  expect(outcomeOf(await limit('send', { perTransaction: '5' }))).toBe('done')
  expect(outcomeOf(await send(alice, theirs, '6'))).toBe('WALLET_FROZEN')
  expect(outcomeOf(await unfreeze())).toBe('done')
  expect(outcomeOf(await send(alice, theirs, '6'))).toBe('PER_TRANSACTION_LIMIT_EXCEEDED')
  expect(outcomeOf(await send(alice, theirs, '5'))).toBe('done')
})
