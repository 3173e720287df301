// The operations that each wallet status allows: who freezes and unfreezes, when a wallet closes, and that no race
// bypasses these rules.
import { randomUUID } from 'node:crypto'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { expectBooksToBeRight } from './books.ts'
import {
  type Answer,
  ask,
  balanceOf,
  control,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  PIN,
  send,
  type Wallet,
} from './client.ts'

const CURRENCIES = (
  'USD EUR GBP CHF SEK NOK DKK PLN CZK HUF RON TRY INR BRL MXN ZAR AUD CAD NZD SGD HKD THB MYR PHP IDR ILS AED SAR ' +
  'EGP MAD KES NGN GHS PEN COP ARS UYU'
).split(' ')

let sql: Database
let moderator: Person
let payer: Person

beforeAll(async () => {
  sql = openDatabase(inject('system').databaseUrls.superuser, {
    applicationName: 'wallets-test',
    maxConnections: 1,
  })
  ;[moderator, payer] = await Promise.all([makeStaff('moderator'), makePerson('Paula Payer')])
  for (const currency of CURRENCIES.slice(0, Object.keys(GUARDS).length)) {
    counterparts.set(currency, await openWallet(payer, currency, '100'))
  }
})
afterAll(async () => {
  expectBooksToBeRight()
  await sql.end()
})

const outcomeOf = ({ status, body }: Answer): string => (status < 300 ? 'done' : `${status} ${body.code}`)
const freeze = (person: Person, wallet: Wallet, body: object | undefined = {}, headers = {}) =>
  person.ask('POST', `/v1/wallets/${wallet.id}/freeze`, body, headers)
const unfreeze = (person: Person, wallet: Wallet) => person.ask('POST', `/v1/wallets/${wallet.id}/unfreeze`)
const close = (person: Person, wallet: Wallet, headers = {}) =>
  person.ask('DELETE', `/v1/wallets/${wallet.id}`, undefined, headers)
const staffFreeze = (wallet: Wallet, reason = 'Case 4711') =>
  moderator.ask('POST', `/v1/admin/wallets/${wallet.id}/freeze`, { reason })
const staffUnfreeze = (wallet: Wallet, body?: object) =>
  moderator.ask('POST', `/v1/admin/wallets/${wallet.id}/unfreeze`, body)
/** Requests one unit of the wallet's currency on the given route. */
const moneyRequest = (person: Person, route: string, body: object, { currency }: Wallet) =>
  person.ask(
    'POST',
    `/v1/${route}`,
    { amount: '1', currency, ...body },
    { 'idempotency-key': randomUUID(), 'step-up-token': person.stepUp },
  )
const walletOf = async (person: Person, { id }: Wallet) => (await person.ask('GET', `/v1/wallets/${id}`)).body

/** Enters three wrong PINs, after ending any earlier lock. */
const lockPin = async (person: Person) => {
  await sql`update gateway.pins set locked_until = now() - interval '1 second' where user_id = ${person.id}`
  for (const code of ['INVALID_PIN', 'INVALID_PIN', 'PIN_LOCKED']) {
    expect((await person.ask('POST', '/v1/pin/verify', { pin: '592817' })).body.code).toBe(code)
  }
}
/** Ends the lock and enters the right PIN: a step-up token from before the lock is no longer valid. */
const stepUpAgain = async (person: Person) => {
  await sql`update gateway.pins set locked_until = now() - interval '1 second' where user_id = ${person.id}`
  const { status, body } = await person.ask('POST', '/v1/pin/verify', { pin: PIN })
  expect(status).toBe(200)
  person.stepUp = body.stepUpToken
}
const freezeByPin = async (person: Person, wallets: Wallet[]) => {
  for (let lock = 0; lock < 3; lock++) await lockPin(person)
  await vi.waitFor(
    async () => {
      for (const wallet of wallets) {
        expect((await walletOf(person, wallet)).freeze).toEqual({ source: 'pin', reason: null })
      }
    },
    { timeout: 15_000 },
  )
}

const STATES = ['active', 'self', 'pin', 'staff', 'closed'] as const
type State = (typeof STATES)[number]

const FROZEN = '403 WALLET_FROZEN'
const ALREADY_FROZEN = '409 WALLET_ALREADY_FROZEN'
const ALREADY_CLOSED = '409 WALLET_ALREADY_CLOSED'
const NOT_YOURS = '403 FREEZE_NOT_YOURS'
const UNAVAILABLE = '409 RECIPIENT_UNAVAILABLE'
const EXISTS = '409 WALLET_ALREADY_EXISTS'

/** The outcome of each operation in each state, each on a separate wallet. Columns as in STATES. */
const GUARDS: Record<string, [fills: boolean, run: Operation, ...outcomes: string[]]> = {
  show: [true, (o, w) => o.ask('GET', `/v1/wallets/${w.id}`), 'done', 'done', 'done', 'done', 'done'],
  entries: [
    true,
    (o, w) => o.ask('GET', `/v1/wallets/${w.id}/entries`),
    'done',
    'done',
    'done',
    'done',
    'done',
  ],
  send: [
    true,
    (o, w) => send(o, counterparts.get(w.currency)!, '1', randomUUID(), { body: { fromWalletId: w.id } }),
    ...['done', FROZEN, FROZEN, FROZEN, '403 WALLET_CLOSED'],
  ],
  receive: [true, (_, w) => send(payer, w, '1'), 'done', 'done', 'done', UNAVAILABLE, UNAVAILABLE],
  hold: [
    true,
    (o, w) =>
      moneyRequest(o, 'holds', { fromWalletId: w.id, toWalletId: counterparts.get(w.currency)!.id }, w),
    ...['done', FROZEN, FROZEN, FROZEN, '403 WALLET_CLOSED'],
  ],
  'be held money for': [
    true,
    (_, w) => moneyRequest(payer, 'holds', { toWalletId: w.id }, w),
    ...['done', 'done', 'done', UNAVAILABLE, UNAVAILABLE],
  ],
  deposit: [
    true,
    (o, w) => moneyRequest(o, 'deposits', { walletId: w.id }, w),
    ...['done', 'done', 'done', UNAVAILABLE, '403 WALLET_CLOSED'],
  ],
  withdraw: [
    true,
    (o, w) => moneyRequest(o, 'withdrawals', { walletId: w.id, destination: 'DE02 1203' }, w),
    ...['done', FROZEN, FROZEN, FROZEN, '403 WALLET_CLOSED'],
  ],
  freeze: [
    true,
    (o, w) => freeze(o, w),
    'done',
    ALREADY_FROZEN,
    ALREADY_FROZEN,
    ALREADY_FROZEN,
    ALREADY_CLOSED,
  ],
  unfreeze: [
    true,
    (o, w) => unfreeze(o, w),
    '409 WALLET_NOT_FROZEN',
    'done',
    NOT_YOURS,
    NOT_YOURS,
    ALREADY_CLOSED,
  ],
  'freeze by staff': [true, (_, w) => staffFreeze(w), 'done', 'done', 'done', ALREADY_FROZEN, ALREADY_CLOSED],
  'unfreeze by staff': [
    true,
    (_, w) => staffUnfreeze(w),
    '409 WALLET_NOT_FROZEN',
    'done',
    'done',
    'done',
    ALREADY_CLOSED,
  ],
  'close with money': [
    true,
    (o, w) => close(o, w),
    '409 WALLET_HAS_BALANCE',
    FROZEN,
    FROZEN,
    FROZEN,
    ALREADY_CLOSED,
  ],
  'close at zero': [false, (o, w) => close(o, w), 'done', FROZEN, FROZEN, FROZEN, ALREADY_CLOSED],
  'open another': [
    true,
    (o, w) => o.ask('POST', '/v1/wallets', { currency: w.currency }),
    ...[EXISTS, EXISTS, EXISTS, EXISTS, 'done'],
  ],
}
type Operation = (owner: Person, wallet: Wallet) => Promise<Answer>
const counterparts = new Map<string, Wallet>()

describe('the guard table', () => {
  test.each(STATES.map((state, column) => [state, column] as const))('%s', async (state: State, column) => {
    const owner = await makePerson('Olga Owner')
    const rows = await Promise.all(
      Object.entries(GUARDS).map(async ([name, [fills, run, ...outcomes]], index) => ({
        name,
        run,
        expected: outcomes[column],
        wallet: await openWallet(owner, CURRENCIES[index]!, fills && state !== 'closed' ? '10' : undefined),
      })),
    )
    const wallets = rows.map(({ wallet }) => wallet)
    if (state === 'pin') {
      await freezeByPin(owner, wallets)
      await stepUpAgain(owner)
    }
    for (const wallet of wallets) {
      if (state === 'self') expect((await freeze(owner, wallet)).status).toBe(200)
      if (state === 'staff') expect((await staffFreeze(wallet)).status).toBe(200)
      if (state === 'closed') expect((await close(owner, wallet)).status).toBe(200)
    }
    const found = await Promise.all(
      rows.map(async ({ name, run, wallet }) => [name, outcomeOf(await run(owner, wallet))]),
    )
    expect(Object.fromEntries(found)).toEqual(
      Object.fromEntries(rows.map(({ name, expected }) => [name, expected])),
    )
    // Only successful operations have moved money (M4).
    for (const { name, wallet, expected } of rows) {
      const moved = expected === 'done' ? { send: -1, receive: 1, deposit: 1, withdraw: -1 }[name] : undefined
      const before = name === 'close at zero' || state === 'closed' ? 0 : 10
      expect([name, Number(await balanceOf(owner, wallet))]).toEqual([name, before + (moved ?? 0)])
    }
  })
})

describe('a name', () => {
  const rename = (person: Person, wallet: Wallet, label: unknown, headers = {}) =>
    person.ask('PATCH', `/v1/wallets/${wallet.id}`, { label }, headers)

  test('is shown wherever the wallet is, to its owner and staff, and kept as ciphertext', async () => {
    const owner = await makePerson('Nora Named')
    const wallet = await openWallet(owner, 'USD', '10')
    expect((await walletOf(owner, wallet)).label).toBeNull()
    const label = `Rent 房租 ${randomUUID().slice(0, 8)}`
    const named = await rename(owner, wallet, label)
    expect([named.status, named.body]).toEqual([200, { ...(await walletOf(owner, wallet)), label }])
    expect((await owner.ask('GET', '/v1/wallets')).body.items).toMatchObject([{ id: wallet.id, label }])
    expect((await moderator.ask('GET', `/v1/admin/wallets/${wallet.id}`)).body).toMatchObject({ label })
    const [stored] = await sql`
      select encode(label, 'escape') as label from ledger.wallets where id = ${wallet.id}`
    expect(stored!.label).not.toContain('Rent')

    // A frozen wallet shows both texts, label and reason; then the label is removed.
    await freeze(owner, wallet, { reason: 'Lost my phone' })
    expect(await walletOf(owner, wallet)).toMatchObject({ label, freeze: { reason: 'Lost my phone' } })
    const taken = await rename(owner, wallet, null)
    expect([taken.status, taken.body.label, taken.body.freeze.reason]).toEqual([200, null, 'Lost my phone'])
  })

  test('X3: a key stands for one name; a closed wallet keeps its own', async () => {
    const owner = await makePerson()
    const wallet = await openWallet(owner, 'USD')
    const headers = { 'idempotency-key': randomUUID() }
    expect((await rename(owner, wallet, 'Rent', headers)).body.label).toBe('Rent')
    expect((await rename(owner, wallet, 'Travel')).body.label).toBe('Travel')
    // The key belongs to the first request, which is complete: the repeat changes nothing.
    expect((await rename(owner, wallet, 'Rent', headers)).body.label).toBe('Travel')
    expect(outcomeOf(await rename(owner, wallet, 'Other', headers))).toBe('422 IDEMPOTENCY_KEY_REUSED')
    expect((await close(owner, wallet)).body).toMatchObject({ status: 'closed', label: 'Travel' })
    expect(outcomeOf(await rename(owner, wallet, 'Late'))).toBe('409 WALLET_ALREADY_CLOSED')
  })

  test.each([[''], ['   '], ['x'.repeat(51)], [7], [undefined], ['a\u0000b']])(
    'must be 1 to 50 characters of text: %j',
    async label => {
      const owner = await makePerson()
      const wallet = await openWallet(owner, 'USD')
      expect(outcomeOf(await rename(owner, wallet, label))).toBe('422 VALIDATION_ERROR')
      expect((await walletOf(owner, wallet)).label).toBeNull()
    },
  )
})

describe('a freeze', () => {
  test('tells its source and reason to the owner and to staff, and keeps the reason as ciphertext', async () => {
    const owner = await makePerson('Fred Frozen')
    const wallet = await openWallet(owner, 'USD', '10')
    const reason = `My phone was stolen ${randomUUID()}`
    const frozen = await freeze(owner, wallet, { reason })
    expect([frozen.status, frozen.body]).toEqual([
      200,
      { ...(await walletOf(owner, wallet)), status: 'frozen', freeze: { source: 'self', reason } },
    ])
    const staffView = (await moderator.ask('GET', `/v1/admin/wallets/${wallet.id}`)).body
    expect(staffView).toEqual({ ...frozen.body, owner: { userId: owner.id, name: 'Fred Frozen' } })
    const [stored] = await sql`
      select encode(freeze_reason, 'escape') as reason from ledger.wallets where id = ${wallet.id}`
    expect(stored!.reason).not.toContain('stolen')

    // A staff freeze replaces the owner's freeze and its reason.
    const taken = await staffFreeze(wallet, 'Reported as stolen')
    expect(taken.body.freeze).toEqual({ source: 'staff', reason: 'Reported as stolen' })
    expect((await walletOf(owner, wallet)).freeze).toEqual({ source: 'staff', reason: 'Reported as stolen' })
    expect(outcomeOf(await unfreeze(owner, wallet))).toBe(NOT_YOURS)
    const lifted = await staffUnfreeze(wallet, { reason: 'Found again' })
    expect([lifted.status, lifted.body.status, lifted.body.freeze]).toEqual([200, 'active', null])
    expect(outcomeOf(await send(owner, counterparts.get('USD')!, '1'))).toBe('done')
  })

  test('needs no body; what is sent must be JSON and known', async () => {
    const owner = await makePerson()
    const wallet = await openWallet(owner, 'USD')
    const text = await owner.ask('POST', `/v1/wallets/${wallet.id}/freeze`, 'reason=x', {
      'content-type': 'application/x-www-form-urlencoded',
    })
    expect([text.status, text.body.code]).toEqual([415, 'UNSUPPORTED_MEDIA_TYPE'])
    for (const body of [{ why: 'x' }, { reason: '' }, { reason: 'x'.repeat(256) }, { source: 'staff' }]) {
      expect(outcomeOf(await freeze(owner, wallet, body))).toBe('422 VALIDATION_ERROR')
    }
    expect((await walletOf(owner, wallet)).status).toBe('active')
    expect((await owner.ask('POST', `/v1/wallets/${wallet.id}/freeze`)).status).toBe(200)
    expect(outcomeOf(await moderator.ask('POST', `/v1/admin/wallets/${wallet.id}/freeze`, {}))).toBe(
      '422 VALIDATION_ERROR',
    )
  })

  test('with a key is one request, its refusal too; without one each is its own', async () => {
    const owner = await makePerson()
    const wallet = await openWallet(owner, 'USD')
    const key = { 'idempotency-key': randomUUID() }
    expect((await freeze(owner, wallet, {}, key)).body.status).toBe('frozen')
    const again = { 'idempotency-key': randomUUID() }
    const refused = await freeze(owner, wallet, {}, again)
    expect(refused.body).toMatchObject({ code: 'WALLET_ALREADY_FROZEN', final: true, retryable: false })
    expect((await freeze(owner, wallet)).body).toMatchObject({ code: 'WALLET_ALREADY_FROZEN', final: false })
    expect((await unfreeze(owner, wallet)).body.status).toBe('active')

    // A repeat is answered, not executed again: the answer shows the wallet's current state.
    expect((await freeze(owner, wallet, {}, key)).body.status).toBe('active')
    expect(outcomeOf(await freeze(owner, wallet, {}, again))).toBe(ALREADY_FROZEN)
    const other = await freeze(owner, wallet, { reason: 'another' }, key)
    expect(outcomeOf(other)).toBe('422 IDEMPOTENCY_KEY_REUSED')
    expect(outcomeOf(await close(owner, wallet, key))).toBe('422 IDEMPOTENCY_KEY_REUSED')
    expect((await walletOf(owner, wallet)).status).toBe('active')
  })

  test('of many at once is set by one, and lifted by one', async () => {
    const owner = await makePerson()
    const wallet = await openWallet(owner, 'USD')
    const all = async (work: () => Promise<Answer>) =>
      (await Promise.all(Array.from({ length: 20 }, work))).map(outcomeOf).sort()
    expect(await all(() => freeze(owner, wallet))).toEqual([...Array(19).fill(ALREADY_FROZEN), 'done'])
    expect(await all(() => unfreeze(owner, wallet))).toEqual([
      ...Array(19).fill('409 WALLET_NOT_FROZEN'),
      'done',
    ])
  })

  test('does not break a promise: what was held before is paid, and let go', async () => {
    const owner = await makePerson()
    const wallet = await openWallet(owner, 'CAD', '10')
    const to = counterparts.get('CAD') ?? (await openWallet(payer, 'CAD', '100'))
    const hold = async () => (await moneyRequest(owner, 'holds', { toWalletId: to.id }, wallet)).body.id
    const [taken, released] = [await hold(), await hold()]
    expect(outcomeOf(await close(owner, wallet))).toBe('409 WALLET_HAS_BALANCE')
    await staffFreeze(wallet)
    const captured = await payer.ask('POST', `/v1/holds/${taken}/capture`, undefined, {
      'idempotency-key': randomUUID(),
    })
    expect(outcomeOf(captured)).toBe('done')
    expect(outcomeOf(await payer.ask('POST', `/v1/holds/${released}/void`))).toBe('done')
    expect((await walletOf(owner, wallet)).available).toBe('9.00')
  })

  test("of the recipient's by staff keeps held money from being captured", async () => {
    const owner = await makePerson()
    const wallet = await openWallet(owner, 'USD')
    const hold = (await moneyRequest(payer, 'holds', { toWalletId: wallet.id }, wallet)).body.id
    await staffFreeze(wallet)
    const capture = () =>
      owner.ask('POST', `/v1/holds/${hold}/capture`, undefined, { 'idempotency-key': randomUUID() })
    expect(outcomeOf(await capture())).toBe(UNAVAILABLE)
    await staffUnfreeze(wallet)
    expect(outcomeOf(await capture())).toBe('done')
    expect(await balanceOf(owner, wallet)).toBe('1.00')
  })

  test('under load: every answer is true, and after its own nothing leaves', async () => {
    const owner = await makePerson()
    const wallet = await openWallet(owner, 'EUR', '100')
    const to = counterparts.get('EUR')!
    const answers = await Promise.all(
      Array.from({ length: 60 }, async (_, index) => {
        if (index !== 30) return send(owner, to, '1')
        const frozen = await freeze(owner, wallet)
        expect(frozen.status).toBe(200)
        const after = await Promise.all(Array.from({ length: 5 }, () => send(owner, to, '1')))
        expect(after.map(outcomeOf)).toEqual(Array(5).fill(FROZEN))
        return frozen
      }),
    )
    const outcomes = answers.toSpliced(30, 1).map(outcomeOf)
    expect(new Set([...outcomes, 'done', FROZEN])).toEqual(new Set(['done', FROZEN]))
    const sent = outcomes.filter(outcome => outcome === 'done').length
    expect(await balanceOf(owner, wallet)).toBe(`${100 - sent}.00`)
  })
})

describe('closing', () => {
  test('is for good: another in the currency has a code of its own, the history stays', async () => {
    const owner = await makePerson()
    const first = await openWallet(owner, 'GBP', '5')
    expect(outcomeOf(await close(owner, first))).toBe('409 WALLET_HAS_BALANCE')
    expect((await close(owner, first)).body).toMatchObject({
      final: false,
      detail: expect.stringContaining('5.00'),
    })
    expect(outcomeOf(await send(owner, counterparts.get('GBP')!, '5'))).toBe('done')
    const closed = await close(owner, first)
    expect([closed.status, closed.body]).toEqual([200, await walletOf(owner, first)])
    expect(closed.body).toMatchObject({ status: 'closed', balance: '0.00', freeze: null })
    expect(Date.parse(closed.body.closedAt)).toBeGreaterThan(Date.now() - 60_000)

    const second = await openWallet(owner, 'GBP', '7')
    expect(second.id).not.toBe(first.id)
    expect(second.code).not.toBe(first.code)
    expect((await owner.ask('GET', `/v1/wallets/${first.id}/entries`)).body.items).toHaveLength(2)
    // Without fromWalletId, the open wallet pays.
    expect((await send(owner, counterparts.get('GBP')!, '1')).body.from.walletId).toBe(second.id)
    expect(outcomeOf(await send(payer, first, '1'))).toBe(UNAVAILABLE)
    const listed = (await owner.ask('GET', '/v1/wallets')).body.items
    expect(listed.map(({ id, status }: { id: string; status: string }) => [id, status])).toEqual([
      [first.id, 'closed'],
      [second.id, 'active'],
    ])
    expect(outcomeOf(await send(owner, counterparts.get('GBP')!, '6'))).toBe('done')
    expect((await close(owner, second)).status).toBe(200)
    const third = await openWallet(owner, 'GBP')
    expect(new Set([first.id, second.id, third.id]).size).toBe(3)
  })

  test('twenty at once close once', async () => {
    const owner = await makePerson()
    const wallet = await openWallet(owner, 'USD')
    const outcomes = await Promise.all(Array.from({ length: 20 }, () => close(owner, wallet)))
    expect(outcomes.map(outcomeOf).sort()).toEqual([...Array(19).fill(ALREADY_CLOSED), 'done'])
  })

  test('against money that comes in: either it is closed and empty, or the money is there', async () => {
    const owner = await makePerson()
    const rounds = [...counterparts.keys()].slice(0, 10)
    const found = await Promise.all(
      rounds.map(async (currency, round) => {
        const wallet = await openWallet(owner, currency)
        const work = Array.from({ length: 4 }, () => () => send(payer, wallet, '1'))
        work.splice(round % 5, 0, () => close(owner, wallet))
        const answers = await Promise.all(work.map(run => run()))
        const [closing] = answers.splice(round % 5, 1)
        const received = answers.filter(({ status }) => status === 201).length
        const refused = answers.filter(answer => outcomeOf(answer) === UNAVAILABLE).length
        const { status, balance } = await walletOf(owner, wallet)
        return { closing: outcomeOf(closing!), received, refused, status, balance: Number(balance) }
      }),
    )
    for (const { closing, received, refused, status, balance } of found) {
      expect(received + refused).toBe(4)
      expect([closing, status, balance]).toEqual(
        received === 0 ? ['done', 'closed', 0] : ['409 WALLET_HAS_BALANCE', 'active', received],
      )
    }
  })
})

describe('wrong PINs', () => {
  test('lock three times in a month: every open wallet is frozen, and staff lift it', async () => {
    const owner = await makePerson('Petra Pin')
    const [usd, jpy, gone] = [
      await openWallet(owner, 'USD', '10'),
      await openWallet(owner, 'JPY', '1000'),
      await openWallet(owner, 'CHF'),
    ]
    await close(owner, gone)
    await lockPin(owner)
    await lockPin(owner)
    const due = () => sql`select freeze_due from gateway.pin_locks where user_id = ${owner.id}`
    expect((await due()).map(row => row.freeze_due)).toEqual([false, false])
    expect((await walletOf(owner, usd)).status).toBe('active')

    await lockPin(owner)
    await vi.waitFor(
      async () => {
        for (const wallet of [usd, jpy]) {
          expect((await walletOf(owner, wallet)).freeze).toEqual({ source: 'pin', reason: null })
        }
      },
      { timeout: 15_000 },
    )
    expect((await walletOf(owner, gone)).status).toBe('closed')
    expect(outcomeOf(await send(owner, counterparts.get('USD')!, '1'))).toBe('403 STEP_UP_INVALID')
    await stepUpAgain(owner)
    expect(outcomeOf(await send(owner, counterparts.get('USD')!, '1'))).toBe(FROZEN)
    expect(outcomeOf(await send(payer, usd, '1'))).toBe('done')
    expect(outcomeOf(await unfreeze(owner, usd))).toBe(NOT_YOURS)
    expect((await staffUnfreeze(usd)).body.status).toBe('active')
    // Executed once: no freeze_due remains that would freeze the wallet again.
    expect((await due()).map(row => row.freeze_due)).toEqual([false, false, false])
    expect(outcomeOf(await send(owner, counterparts.get('USD')!, '1'))).toBe('done')
    // A further lock within the month freezes again the wallets that are not frozen.
    await lockPin(owner)
    await vi.waitFor(async () => expect((await walletOf(owner, usd)).freeze?.source).toBe('pin'), {
      timeout: 15_000,
    })
  })

  test('freeze although the gateway dies right after the lock', async () => {
    const owner = await makePerson()
    const wallet = await openWallet(owner, 'USD', '10')
    await lockPin(owner)
    await lockPin(owner)
    await lockPin(owner)
    await control('gateway', 'SIGKILL')
    await control('gateway', 'restart')
    await vi.waitFor(async () => expect((await walletOf(owner, wallet)).freeze?.source).toBe('pin'), {
      timeout: 20_000,
    })
  }, 90_000)
})

describe('staff', () => {
  test('list wallets by status and user, page by page, with their owners', async () => {
    const owner = await makePerson('Lena List')
    const wallets = await Promise.all(['USD', 'EUR', 'GBP'].map(currency => openWallet(owner, currency)))
    await freeze(owner, wallets[0]!)
    await close(owner, wallets[1]!)
    const list = async (query: string) =>
      (await moderator.ask('GET', `/v1/admin/wallets?userId=${owner.id}${query}`)).body
    const ids = wallets.map(({ id }) => id).sort()
    const whole = await list('')
    expect(whole.items.map(({ id }: Wallet) => id)).toEqual(ids)
    expect(whole.items[0].owner).toEqual({ userId: owner.id, name: 'Lena List' })
    const first = await list('&limit=2')
    const rest = await list(`&limit=2&cursor=${first.nextCursor}`)
    expect([...first.items, ...rest.items]).toEqual(whole.items)
    expect(rest.nextCursor).toBeNull()
    expect((await list('&status=frozen')).items.map(({ id }: Wallet) => id)).toEqual([wallets[0]!.id])
    expect((await list('&status=closed')).items.map(({ id }: Wallet) => id)).toEqual([wallets[1]!.id])
    for (const query of ['&cursor=abc', '&status=open', '&limit=0', '&more=1']) {
      expect([query, (await list(query)).code]).toEqual([query, 'VALIDATION_ERROR'])
    }
  })

  test('never act on a wallet of their own, however high their role', async () => {
    const root = await makeStaff('super_admin')
    const own = await root.ask('POST', '/v1/wallets', { currency: 'USD' })
    const id = own.body.id ?? own.body.walletId
    for (const [path, body] of [
      ['freeze', { reason: 'mine' }],
      ['unfreeze', {}],
    ] as const) {
      const answer = await root.ask('POST', `/v1/admin/wallets/${id}/${path}`, body)
      expect(outcomeOf(answer)).toBe('403 INSUFFICIENT_PERMISSIONS')
    }
  })

  test('users are refused, and told which role is needed', async () => {
    const wallet = counterparts.get('USD')!
    for (const [method, path, body] of [
      ['GET', '/v1/admin/wallets', undefined],
      ['GET', `/v1/admin/wallets/${wallet.id}`, undefined],
      ['POST', `/v1/admin/wallets/${wallet.id}/freeze`, { reason: 'x' }],
      ['POST', `/v1/admin/wallets/${wallet.id}/unfreeze`, {}],
    ] as const) {
      const answer = await payer.ask(method, path, body)
      expect([answer.status, answer.body]).toMatchObject([
        403,
        { code: 'INSUFFICIENT_PERMISSIONS', requiredRole: 'moderator' },
      ])
    }
    // A system wallet has no owner: not even staff find it.
    const [system] = await sql`select id from ledger.wallets where user_id is null limit 1`
    for (const id of [system!.id, randomUUID()]) {
      expect(outcomeOf(await moderator.ask('GET', `/v1/admin/wallets/${id}`))).toBe('404 WALLET_NOT_FOUND')
      expect(outcomeOf(await moderator.ask('POST', `/v1/admin/wallets/${id}/freeze`, { reason: 'x' }))).toBe(
        '404 WALLET_NOT_FOUND',
      )
    }
    expect((await ask('GET', '/v1/admin/wallets')).status).toBe(401)
  })
})
