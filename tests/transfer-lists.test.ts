// A user's list of transfers tells each payment's story: pending, refused, completed, with its ways in and out.
import { randomUUID } from 'node:crypto'
import { drawWalletCode } from '@pennywire/contracts/wallet-code.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { beforeAll, describe, expect, inject, test, vi } from 'vitest'
import {
  type Answer,
  balanceOf,
  control,
  makePerson,
  openWallet,
  type Person,
  send,
  type Wallet,
} from './client.ts'

type Item = Answer['body']

const soon = { timeout: 15_000, interval: 50 }
const dayOf = (ms: number) => new Date(ms).toISOString().slice(0, 10)

const deposit = (person: Person, wallet: Wallet, amount: string, source?: string) =>
  person.ask(
    'POST',
    '/v1/deposits',
    { walletId: wallet.id, amount, currency: wallet.currency, ...(source ? { source } : {}) },
    { 'idempotency-key': randomUUID(), prefer: 'wait=1' },
  )
const withdraw = (person: Person, wallet: Wallet, amount: string, destination: string) =>
  person.ask(
    'POST',
    '/v1/withdrawals',
    { walletId: wallet.id, amount, currency: wallet.currency, destination },
    { 'idempotency-key': randomUUID(), prefer: 'wait=1', 'step-up-token': person.stepUp },
  )
const sendLater = (person: Person, to: Wallet, amount: string) =>
  send(person, to, amount, randomUUID(), { headers: { prefer: 'respond-async' } })

const list = async (person: Person, query = ''): Promise<Item[]> => {
  const answer = await person.ask('GET', `/v1/transfers?limit=100${query === '' ? '' : `&${query}`}`)
  expect([answer.status, query, answer.body.nextCursor]).toEqual([200, query, null])
  return answer.body.items
}
const idsIn = async (person: Person, query = '') => (await list(person, query)).map(({ id }) => id)

/** Does something while the ledger decides nothing. */
const whileLedgerStands = async <Result>(act: () => Promise<Result>): Promise<Result> => {
  await control('ledger', 'SIGSTOP')
  try {
    return await act()
  } finally {
    await control('ledger', 'SIGCONT')
  }
}
const untilDecided = (person: Person, ids: string[]) =>
  vi.waitFor(async () => {
    for (const id of ids)
      expect((await person.ask('GET', `/v1/transfers/${id}`)).body.status).not.toBe('pending')
  }, soon)

describe('one list', () => {
  let alice: Person
  let bob: Person
  let wallet: Wallet
  let to: Wallet
  beforeAll(async () => {
    ;[alice, bob] = await Promise.all([makePerson('Alice Smith'), makePerson('Bob Brown')])
    ;[wallet, to] = await Promise.all([openWallet(alice, 'USD', '100'), openWallet(bob, 'USD')])
  })

  test('of what is pending, refused by the provider or by the ledger, and completed, as each is shown by its id', async () => {
    const iban = 'DE02 1203 0000 0000 2020 51'
    const made: Array<[id: string, type: string, status: string]> = []
    const noted = await send(alice, to, '5', randomUUID(), { body: { note: 'Rent for May' } })
    made.push([noted.body.id, 'transfer', 'completed'])
    const failed = await deposit(alice, wallet, '9', 'sandbox:fail')
    made.push([failed.body.transferId, 'deposit', 'rejected'])
    const silent = await deposit(alice, wallet, '8', 'sandbox:silent')
    expect([silent.status, silent.body.source, silent.body.destination]).toEqual([
      202,
      '•••••••:••lent',
      null,
    ])
    made.push([silent.body.id, 'deposit', 'pending'])
    const paid = await withdraw(alice, wallet, '7', iban)
    expect([paid.status, paid.body.destination, paid.body.source]).toEqual([
      201,
      '•••• •••• •••• •••• ••20 51',
      null,
    ])
    made.push([paid.body.id, 'withdrawal', 'completed'])
    const refused = await withdraw(alice, wallet, '6', 'sandbox:fail')
    made.push([refused.body.transferId, 'withdrawal', 'rejected'])
    const tooMuch = await withdraw(alice, wallet, '1000', iban)
    expect(tooMuch.body.code).toBe('INSUFFICIENT_BALANCE')
    made.push([tooMuch.body.transferId, 'withdrawal', 'rejected'])
    const unpaid = await withdraw(alice, wallet, '4', 'sandbox:silent')
    made.push([unpaid.body.id, 'withdrawal', 'pending'])
    const poor = await send(alice, to, '1000')
    made.push([poor.body.transferId, 'transfer', 'rejected'])

    await whileLedgerStands(async () => {
      const later = await sendLater(alice, to, '3')
      expect(later.status).toBe(202)
      const items = await list(alice)
      expect(items[0]).toEqual(later.body)
      expect(items[0]).toMatchObject({ status: 'pending', final: false, from: { walletId: wallet.id } })
      // What the sender has not sent yet is nothing of the recipient's.
      expect(await idsIn(bob)).not.toContain(later.body.id)
      made.push([later.body.id, 'transfer', 'completed'])
    })
    await untilDecided(alice, [made.at(-1)![0]])

    const items = await list(alice)
    const shown = items.map(({ id, type, status }) => [id, type, status])
    expect(shown.slice(0, -1).toSorted()).toEqual(made.toSorted())
    // Beneath, the wallet's first deposit, whose request names no source.
    expect(items.at(-1)).toMatchObject({ type: 'deposit', status: 'completed', source: null })
    for (const item of items) expect(item).toEqual((await alice.ask('GET', `/v1/transfers/${item.id}`)).body)

    for (const status of ['pending', 'rejected', 'completed', 'reversed', 'in_suspense']) {
      const wanted = made.filter(([, , each]) => each === status).map(([id]) => id)
      const first = status === 'completed' ? [items.at(-1)!.id] : []
      expect((await idsIn(alice, `status=${status}`)).toSorted()).toEqual([...wanted, ...first].toSorted())
    }
    for (const type of ['transfer', 'deposit', 'withdrawal']) {
      const wanted = items.filter(each => each.type === type).map(({ id }) => id)
      expect(await idsIn(alice, `type=${type}`)).toEqual(wanted)
    }
    // Nothing of an account or card is stored or shown in full.
    expect(JSON.stringify(items)).not.toContain('DE02')
    expect((await list(bob)).find(({ id }) => id === noted.body.id)).toMatchObject({
      note: 'Rent for May',
      from: { walletId: wallet.id, name: 'Alice S.' },
      source: null,
      destination: null,
    })
  })
})

test('pages show each once, although what is pending on the first is completed or refused before the next', async () => {
  const [carol, dan] = await Promise.all([makePerson('Carol Jones'), makePerson('Dan Brown')])
  const [, to] = await Promise.all([openWallet(carol, 'EUR', '50'), openWallet(dan, 'EUR')])
  for (const amount of ['1', '2', '3']) expect((await send(carol, to, amount)).status).toBe(201)
  const pages: Item[][] = []
  let cursor: string | null = null
  const turn = async () => {
    const answer: Answer = await carol.ask('GET', `/v1/transfers?limit=2${cursor ? `&cursor=${cursor}` : ''}`)
    expect(answer.status).toBe(200)
    pages.push(answer.body.items)
    cursor = answer.body.nextCursor
  }
  const pending = await whileLedgerStands(async () => {
    const ids: string[] = []
    for (const amount of ['4', '500', '5', '600', '6']) ids.push((await sendLater(carol, to, amount)).body.id)
    await turn()
    return ids
  })
  await untilDecided(carol, pending)
  const late = await send(carol, to, '1')
  while (cursor !== null) await turn()
  const seen = pages.flat()
  const ids = seen.map(({ id }) => id)
  expect(new Set(ids).size).toBe(ids.length)
  expect(pending.filter(id => !ids.includes(id))).toEqual([])
  // The first two as they were, the others as they are; what is new is on a new first page.
  expect(pages[0]!.map(({ id, status }) => [id, status])).toEqual([
    [pending[4], 'pending'],
    [pending[3], 'pending'],
  ])
  expect(
    pages
      .slice(1, 3)
      .flat()
      .map(({ id, status }) => [id, status]),
  ).toEqual(
    expect.arrayContaining([
      [pending[2], 'completed'],
      [pending[1], 'rejected'],
      [pending[0], 'completed'],
    ]),
  )
  expect(ids).toHaveLength(9)
  expect(ids).not.toContain(late.body.id)
  const now = await idsIn(carol)
  expect([now.length, new Set(now).size, now[0]]).toEqual([10, 10, late.body.id])
})

describe('a filter', () => {
  let erin: Person
  let frank: Person
  let gina: Person
  let [usd, eur, franksUsd, franksEur, ginasUsd]: Wallet[] = []
  let [toFrank, toFrankInEur, toGina, refused, fromGina]: string[] = []
  beforeAll(async () => {
    ;[erin, frank, gina] = await Promise.all([makePerson('Erin'), makePerson('Frank'), makePerson('Gina')])
    usd = await openWallet(erin, 'USD', '100')
    eur = await openWallet(erin, 'EUR', '100')
    franksUsd = await openWallet(frank, 'USD')
    franksEur = await openWallet(frank, 'EUR')
    ginasUsd = await openWallet(gina, 'USD', '100')
    const made = []
    for (const [person, to, amount] of [
      [erin, franksUsd, '10'],
      [erin, franksEur, '20'],
      [erin, ginasUsd, '30'],
      [erin, franksUsd, '500'],
      [gina, usd, '40'],
    ] as const) {
      const { body } = await send(person, to, amount)
      made.push(body.id ?? body.transferId)
    }
    ;[toFrank, toFrankInEur, toGina, refused, fromGina] = made
  })

  test('finds what it names, alone and with others', async () => {
    const today = dayOf(Date.now())
    const [before, after] = [dayOf(Date.now() - 86_400_000), dayOf(Date.now() + 86_400_000)]
    const expected: Array<[query: string, ids: unknown[]]> = [
      [`counterparty=${franksUsd!.code}`, [refused, toFrank]],
      [`counterparty=${franksUsd!.code.toLowerCase()}`, [refused, toFrank]],
      [`counterparty=${franksUsd!.id}`, [refused, toFrank]],
      [`counterparty=${ginasUsd!.id}`, [fromGina, toGina]],
      [`counterparty=${ginasUsd!.id}&direction=in`, [fromGina]],
      [`counterparty=${ginasUsd!.id}&direction=out`, [toGina]],
      [`counterparty=${franksUsd!.id}&status=rejected`, [refused]],
      [`walletId=${eur!.id}&type=transfer`, [toFrankInEur]],
      ['currency=EUR&type=transfer', [toFrankInEur]],
      ['currency=USD&type=transfer', [fromGina, refused, toGina, toFrank]],
      ['currency=JPY', []],
      ['currency=USD&type=transfer&minAmount=30', [fromGina, refused, toGina]],
      ['currency=USD&type=transfer&minAmount=30.00&maxAmount=40', [fromGina, toGina]],
      ['currency=USD&maxAmount=10', [toFrank]],
      [`type=transfer&from=${today}&to=${after}`, [fromGina, refused, toGina, toFrankInEur, toFrank]],
      [`type=transfer&from=${before}&to=${before}`, []],
      [`from=${after}`, []],
      ['to=1999-12-31', []],
      ['type=reversal', []],
      ['type=transfer&to=9999-12-31', [fromGina, refused, toGina, toFrankInEur, toFrank]],
    ]
    for (const [query, ids] of expected) expect([query, await idsIn(erin, query)]).toEqual([query, ids])
    expect(await balanceOf(erin, usd!)).toBe('100.00')
  })

  test('that cannot be read is refused, and the field is named', async () => {
    for (const [query, field] of [
      ['counterparty=Frank', 'counterparty'],
      ['counterparty=PW-7K2M9QXZ', 'counterparty'],
      ['walletId=7', 'walletId'],
      ['currency=usd', 'currency'],
      ['minAmount=1', 'currency'],
      ['currency=JPY&minAmount=1.5', 'minAmount'],
      ['currency=USD&maxAmount=-1', 'maxAmount'],
      ['from=2026-02-30', 'from'],
      ['from=1969-01-01', 'from'],
      ['from=2026-02-02&to=2026-02-01', 'from'],
      ['to=2026-01-01T00:00:00Z', 'to'],
      ['status=done', 'status'],
      ['direction=up', 'direction'],
      ['counterpartyId=x', 'counterpartyId'],
    ]) {
      const { status, body } = await erin.ask('GET', `/v1/transfers?${query}`)
      const fields = (body.errors ?? []).map((error: { field: string }) => error.field)
      expect([query, status, body.code, fields]).toEqual([query, 422, 'VALIDATION_ERROR', [field]])
    }
  })

  test('by a counterparty reveals nothing of others: not that a wallet exists, and not whose else it is', async () => {
    const nothing = { items: [], nextCursor: null }
    const seen = async (person: Person, query: string) => {
      const { status, body } = await person.ask('GET', `/v1/transfers?${query}`)
      return [status, body]
    }
    // Gina never dealt with Frank: his wallets look like ones that do not exist.
    for (const counterparty of [franksUsd!.code, franksUsd!.id, drawWalletCode(), randomUUID()]) {
      expect(await seen(gina, `counterparty=${counterparty}`)).toEqual([200, nothing])
    }
    // Erin paid both wallets of Frank: neither filter tells that they have one owner.
    expect(await idsIn(erin, `counterparty=${franksEur!.code}`)).toEqual([toFrankInEur])
    // Her own wallet is nobody's counterparty.
    expect(await seen(erin, `counterparty=${usd!.id}`)).toEqual([200, nothing])
    // Another's wallet cannot be listed, and is not told from one that does not exist.
    for (const walletId of [franksUsd!.id, randomUUID()]) {
      const [status, body] = await seen(erin, `walletId=${walletId}`)
      expect([status, body.code, body.detail]).toEqual([
        404,
        'WALLET_NOT_FOUND',
        'walletId: you have no such wallet',
      ])
    }
    // A cursor of another's list opens nothing of it.
    const { body: first } = await erin.ask('GET', '/v1/transfers?limit=1')
    const { body } = await frank.ask('GET', `/v1/transfers?limit=100&cursor=${first.nextCursor}`)
    for (const { id } of body.items) expect([toFrank, toFrankInEur]).toContain(id)
  })
})

test('the entries of a transfer are shown to each party alone: its own', async () => {
  const [hana, ivo, mallory] = await Promise.all([
    makePerson('Hana'),
    makePerson('Ivo Brown'),
    makePerson('Mallory'),
  ])
  const [from, to] = await Promise.all([openWallet(hana, 'USD', '50'), openWallet(ivo, 'USD', '7')])
  const { body: sent } = await send(hana, to, '20')
  const entriesOf = (person: Person, id: string) => person.ask('GET', `/v1/transfers/${id}/entries`)
  const hers = await entriesOf(hana, sent.id)
  expect(hers.body).toEqual({
    items: [
      {
        ...{ walletId: from.id, currency: 'USD', sequence: 2, transferId: sent.id, type: 'transfer' },
        ...{ amount: '-20.00', balanceAfter: '30.00', createdAt: sent.completedAt },
        counterparty: { walletId: to.id, walletCode: to.code, name: 'Ivo B.' },
      },
    ],
  })
  const his = await entriesOf(ivo, sent.id)
  expect(his.body.items).toMatchObject([{ walletId: to.id, amount: '20.00', balanceAfter: '27.00' }])
  expect(his.body.items).toHaveLength(1)
  for (const id of [sent.id, randomUUID()]) {
    const none = await entriesOf(mallory, id)
    expect([none.status, none.body.code]).toEqual([404, 'TRANSFER_NOT_FOUND'])
  }
  const poor = await send(hana, to, '500')
  for (const person of [hana, ivo]) {
    expect((await entriesOf(person, poor.body.transferId)).body).toEqual({ items: [] })
  }
})

test('a filter reads a bounded number of a long list for each page, and finds the last of it', async () => {
  // Inserted into the tables, because 25,000 requests would take too long, and removed afterwards.
  const COUNT = 25_000
  const kim = await makePerson('Kim Long')
  const long = await openWallet(kim, 'CHF')
  const [outside, rare] = [randomUUID(), randomUUID()]
  const sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test' })
  try {
    await sql`
      insert into ledger.transfers (id, type, status, user_id, from_wallet, to_wallet, to_sequence, amount, currency,
        fingerprint, requested_at, decided_at, partition, seq)
      select md5(${long.id} || n)::uuid, 'transfer', 'completed', ${outside}, case n when 3 then ${rare}::uuid else ${outside}::uuid end,
        ${long.id}, n, n, 'CHF', '', timestamptz '2025-01-01' + n * interval '1 minute',
        timestamptz '2025-01-01' + n * interval '1 minute', 0, -n
      from generate_series(1, ${COUNT}::int) n`
    await sql`
      insert into ledger.entries (wallet_id, sequence, transfer_id, amount, balance_after)
      select ${long.id}, n, md5(${long.id} || n)::uuid, n, n from generate_series(1, ${COUNT}::int) n`
    await sql`update ledger.wallets set sequence = ${COUNT}, balance = ${COUNT} where id = ${long.id}`

    const pagesOf = async (query: string) => {
      const pages: string[][] = []
      let cursor: string | null = null
      do {
        const path: string = `/v1/transfers?${query}${cursor ? `&cursor=${cursor}` : ''}`
        const { status, body }: Answer = await kim.ask('GET', path)
        expect(status).toBe(200)
        pages.push(body.items.map(({ amount }: { amount: string }) => amount))
        cursor = body.nextCursor
      } while (cursor !== null)
      return pages
    }
    expect(await pagesOf(`counterparty=${rare}`)).toEqual([[], [], ['0.03']])
    expect(await pagesOf('currency=CHF&maxAmount=0.02')).toEqual([[], [], ['0.02', '0.01']])
    expect(await pagesOf('type=reversal')).toEqual([[], [], []])
    // Days are found by halving, and the reading ends with them.
    expect(await pagesOf(`counterparty=${rare}&from=2025-01-01&to=2025-01-02`)).toEqual([['0.03']])
    expect(await pagesOf(`counterparty=${rare}&from=2025-01-02&to=2025-01-04`)).toEqual([[]])
    const day = await pagesOf('from=2025-01-03&to=2025-01-03&limit=100')
    expect(day.map(page => page.length)).toEqual([...Array.from({ length: 14 }, () => 100), 40])
    expect([day[0]![0], day.at(-1)!.at(-1)]).toEqual(['43.19', '28.80'])
  } finally {
    await sql`delete from ledger.entries where wallet_id = ${long.id}`
    await sql`delete from ledger.transfers where to_wallet = ${long.id}`
    await sql`update ledger.wallets set sequence = 0, balance = 0 where id = ${long.id}`
    await sql.end()
  }
})
