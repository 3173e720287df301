// Balance and movements of a wallet: the balance at any moment, and statements whose sums agree.
import { randomUUID } from 'node:crypto'
import { linkedTransferIdOf } from '@pennywire/contracts/ids.ts'
import { type Database, LONG_DEADLINE_MS, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { ask, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

const DAY_MS = 86_400_000
const cents = (text: string) => BigInt(text.replace('.', ''))
const dayOf = (ms: number) => new Date(ms).toISOString().slice(0, 10)

let sql: Database
let alice: Person
let bob: Person
let wallet: Wallet
let bobs: Wallet

beforeAll(async () => {
  sql = openDatabase(inject('system').databaseUrls.superuser, {
    applicationName: 'statements-test',
    maxConnections: 1,
    deadlineMs: LONG_DEADLINE_MS,
  })
  ;[alice, bob] = await Promise.all([makePerson('Alice Smith'), makePerson('Владимир Петров')])
  ;[wallet, bobs] = await Promise.all([openWallet(alice, 'USD'), openWallet(bob, 'USD')])
})
afterAll(() => sql.end())

type Row = Record<string, string>

/** Reads CSV as RFC 4180 writes it: every line ends in CRLF, quotes are doubled. */
const readCsv = (text: string): Row[] => {
  const rows: string[][] = [[]]
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/g)) {
    rows.at(-1)!.push(quoted?.replaceAll('""', '"') ?? plain!)
    if (end === '\r\n') rows.push([])
  }
  const [columns, ...records] = rows.slice(0, -1)
  return records.map(record => Object.fromEntries(columns!.map((column, index) => [column, record[index]!])))
}

const statementOf = (person: Person, of: Wallet, from: string, to: string, format = 'csv') =>
  fetch(
    `${inject('system').gatewayUrl}/v1/wallets/${of.id}/statement?from=${from}&to=${to}&format=${format}`,
    { headers: { authorization: `Bearer ${person.token}` } },
  )

/** A statement as CSV, split into its records; checks that its sums agree. */
const csvOf = async (person: Person, of: Wallet, from: string, to: string) => {
  const response = await statementOf(person, of, from, to)
  expect(response.status).toBe(200)
  const rows = readCsv(await response.text())
  const only = (record: string) => {
    const found = rows.filter(row => row.record === record)
    expect(found).toHaveLength(1)
    return found[0]!
  }
  const [opening, closing] = [only('opening_balance').balance!, only('closing_balance').balance!]
  const [sumIn, sumOut] = [only('sum_in').amount!, only('sum_out').amount!]
  const entries = rows.filter(({ record }) => record === 'entry')
  expect([rows[0]!.record, rows.at(-1)!.record]).toEqual(['opening_balance', 'closing_balance'])
  expect(cents(opening) + cents(sumIn) - cents(sumOut)).toBe(cents(closing))
  let balance = cents(opening)
  let [came, went] = [0n, 0n]
  for (const entry of entries) {
    const amount = cents(entry.amount!)
    balance += amount
    if (amount > 0n) came += amount
    else went -= amount
    expect(cents(entry.balance!)).toBe(balance)
    expect(entry.date! >= from && entry.date!.slice(0, 10) <= to).toBe(true)
  }
  expect([balance, came, went]).toEqual([cents(closing), cents(sumIn), cents(sumOut)])
  return { opening, closing, entries }
}

const balanceAt = async (at: number) => {
  const { status, body } = await alice.ask(
    'GET',
    `/v1/wallets/${wallet.id}/balance?at=${new Date(at).toISOString()}`,
  )
  expect(status).toBe(200)
  return body
}

/** Pseudo-random numbers, the same in each run. */
const createRandom = (seed: number) => () => {
  seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31
  return seed / 2 ** 31
}

describe('a random history over many days', () => {
  const first = Math.floor(Date.now() / DAY_MS) - 120
  /** The decision time of each of Alice's entries, in order. */
  const moments: number[] = []
  /** When the ledger decided them: put back at the end, because the books must be what the events tell. */
  let decided: Array<{ id: string; decidedAt: Date }> = []
  let entries: Array<{ sequence: number; amount: string; balanceAfter: string; transferId: string }>

  beforeAll(async () => {
    const random = createRandom(20_260_101)
    const amount = () =>
      `${Math.floor(random() * 40)}.${String(Math.floor(random() * 99) + 1).padStart(2, '0')}`
    for (let step = 0; step < 40; step++) {
      const what = random()
      if (what < 0.25) {
        const body = { walletId: wallet.id, amount: amount(), currency: 'USD' }
        await alice.ask('POST', '/v1/deposits', body, { 'idempotency-key': randomUUID() })
      } else if (what < 0.65)
        await send(alice, bobs, amount(), randomUUID(), { body: { note: `Step ${step}` } })
      else await send(bob, wallet, amount())
    }
    const listed = await alice.ask('GET', `/v1/wallets/${wallet.id}/entries?limit=100`)
    entries = listed.body.items.toReversed()
    expect(entries.length).toBeGreaterThan(15)
    // Spread the entries over the last weeks: some days without entries, some entries at the edge of a day.
    decided = await sql<Array<{ id: string; decidedAt: Date }>>`
      select id, decided_at as "decidedAt" from ledger.transfers
      where id = any (${entries.map(({ transferId }) => transferId)}::uuid[])`
    let at = first * DAY_MS
    for (const [index, { transferId }] of entries.entries()) {
      at += Math.floor(random() * 2 * DAY_MS)
      if (index % 5 === 1) at = Math.ceil(at / DAY_MS) * DAY_MS
      if (index % 5 === 3) at = Math.ceil((at + 1) / DAY_MS) * DAY_MS - 1
      moments.push(at)
      await sql`update ledger.transfers set decided_at = ${new Date(at)} where id = ${transferId}`
    }
    expect(at).toBeLessThan(Date.now())
  })
  afterAll(async () => {
    for (const { id, decidedAt } of decided)
      await sql`update ledger.transfers set decided_at = ${decidedAt} where id = ${id}`
  })

  test('opening + in − out = closing, for any period, and one period ends where the next begins', async () => {
    const random = createRandom(7)
    const last = Math.floor(Date.now() / DAY_MS)
    for (let round = 0; round < 25; round++) {
      const from = first - 2 + Math.floor(random() * (last - first + 2))
      const to = from + Math.floor(random() * (last - from + 1))
      const {
        opening,
        closing,
        entries: shown,
      } = await csvOf(alice, wallet, dayOf(from * DAY_MS), dayOf(to * DAY_MS))
      const inside = entries.filter(
        (_, index) => moments[index]! >= from * DAY_MS && moments[index]! < (to + 1) * DAY_MS,
      )
      expect(shown.map(entry => [entry.amount, entry.balance])).toEqual(
        inside.map(entry => [entry.amount, entry.balanceAfter]),
      )
      const before = entries.filter((_, index) => moments[index]! < from * DAY_MS).at(-1)
      expect(opening).toBe(before?.balanceAfter ?? '0.00')
      if (to < last) {
        const next = await csvOf(alice, wallet, dayOf((to + 1) * DAY_MS), dayOf(last * DAY_MS))
        expect(next.opening).toBe(closing)
      }
    }
  })

  test('the balance at a moment is the last entry’s until then', async () => {
    expect(await balanceAt(moments[0]! - 1)).toMatchObject({ balance: '0.00', sequence: 0 })
    for (const [index, { sequence, balanceAfter }] of entries.entries()) {
      const latest = moments.lastIndexOf(moments[index]!)
      expect(await balanceAt(moments[index]!)).toEqual({
        walletId: wallet.id,
        balance: entries[latest]!.balanceAfter,
        available: null,
        currency: 'USD',
        at: new Date(moments[index]!).toISOString(),
        sequence: entries[latest]!.sequence,
      })
      if (latest === index && index < entries.length - 1) {
        const later = await balanceAt(moments[index + 1]! - 1)
        expect([later.balance, later.sequence]).toEqual([balanceAfter, sequence])
      }
    }
    const now = await alice.ask('GET', `/v1/wallets/${wallet.id}/balance`)
    const { sequence, balanceAfter: balance } = entries.at(-1)!
    expect(now.body).toMatchObject({ balance, available: balance, sequence, currency: 'USD' })
    expect(Math.abs(Date.parse(now.body.at) - Date.now())).toBeLessThan(60_000)
  })

  test('a PDF has the same period on A4 pages, with any letters in the names', async () => {
    for (const [person, of] of [
      [alice, wallet],
      [bob, bobs],
    ] as const) {
      const response = await statementOf(person, of, dayOf(first * DAY_MS), dayOf(Date.now()), 'pdf')
      expect(response.status).toBe(200)
      expect(response.headers.get('content-type')).toBe('application/pdf')
      const pdf = Buffer.from(await response.arrayBuffer()).toString('latin1')
      expect(pdf.slice(0, 5)).toBe('%PDF-')
      expect(pdf.trimEnd().slice(-5)).toBe('%%EOF')
      expect([...pdf.matchAll(/\/MediaBox \[0 0 595\.28 841\.89\]/g)].length).toBeGreaterThanOrEqual(1)
    }
  })
})

test('an entry tells reference, type, counterparty and the note of the sender, to both, as no formula', async () => {
  const today = dayOf(Date.now())
  const [carol, dave] = await Promise.all([makePerson('Carol Jones'), makePerson('=Cmd Dave')])
  const [from, to] = await Promise.all([openWallet(carol, 'EUR', '50'), openWallet(dave, 'EUR')])
  const note = '=HYPERLINK("http://example.com","Lunch, with\nfriends")'
  const { body: sent } = await send(carol, to, '12.50', randomUUID(), { body: { note } })
  const response = await statementOf(carol, from, today, today)
  expect(response.headers.get('content-type')).toBe('text/csv; charset=utf-8; header=present')
  expect(response.headers.get('content-disposition')).toBe(
    `attachment; filename="statement-${from.code}-${today}-${today}.csv"`,
  )
  expect(response.headers.get('cache-control')).toBe('no-store')
  // A user may request one statement at a time: read this one to its end first.
  await response.text()
  const { opening, closing, entries } = await csvOf(carol, from, today, today)
  expect([opening, closing]).toEqual(['0.00', '37.50'])
  expect(entries).toEqual([
    expect.objectContaining({
      type: 'deposit',
      amount: '50.00',
      balance: '50.00',
      counterparty: '',
      counterparty_code: '',
      note: '',
    }),
    {
      record: 'entry',
      date: sent.completedAt,
      reference: sent.reference,
      type: 'transfer',
      counterparty: "'=Cmd D.",
      counterparty_code: to.code,
      amount: '-12.50',
      balance: '37.50',
      currency: 'EUR',
      note: `'${note}`,
    },
  ])
  const received = await csvOf(dave, to, today, today)
  expect(received.entries).toMatchObject([
    { amount: '12.50', counterparty: 'Carol J.', counterparty_code: from.code, note: `'${note}` },
  ])
})

test('what came with a transfer is shown as a transfer of its own that names it', async () => {
  // Inserted into the tables, because no current rule creates one, and removed afterwards.
  const [dora, erin] = [await makePerson('Dora Page'), await makePerson('Erin Low')]
  const [from, to] = [await openWallet(dora, 'NOK', '10'), await openWallet(erin, 'NOK')]
  const { body: sent } = await send(dora, to, '4')
  const fee = linkedTransferIdOf(sent.id, 1)
  try {
    await sql`
      insert into ledger.transfers (id, type, status, user_id, from_wallet, from_sequence, to_wallet, to_sequence, amount,
        currency, fingerprint, requested_at, decided_at, linked_to, partition, seq)
      select ${fee}, 'fee', status, user_id, from_wallet, 3, ${randomUUID()}, 1, 5, currency, fingerprint, requested_at,
        decided_at, id, partition, seq
      from ledger.transfers where id = ${sent.id}`
    await sql`
      insert into ledger.entries (wallet_id, sequence, transfer_id, amount, balance_after)
      values (${from.id}, 3, ${fee}, -5, 595)`
    await sql`update ledger.wallets set sequence = 3, balance = 595 where id = ${from.id}`

    const shown = { id: fee, type: 'fee', status: 'completed', amount: '0.05', linkedTo: sent.id, to: null }
    const one = await dora.ask('GET', `/v1/transfers/${fee}`)
    expect(one.body).toMatchObject({ ...shown, balanceAfter: '5.95', final: true })
    expect((await dora.ask('GET', `/v1/transfers/${sent.id}`)).body).toEqual({ ...sent, linkedTo: null })
    expect((await erin.ask('GET', `/v1/transfers/${fee}`)).status).toBe(404)
    const listed = await dora.ask('GET', '/v1/transfers?limit=2')
    expect(listed.body.items).toMatchObject([shown, { id: sent.id, linkedTo: null }])
    expect((await dora.ask('GET', '/v1/transfers?type=transfer')).body.items).toHaveLength(1)
    const legs = await dora.ask('GET', `/v1/transfers/${sent.id}/entries`)
    expect(legs.body.items).toMatchObject([
      { transferId: sent.id, amount: '-4.00', balanceAfter: '6.00', walletId: from.id },
      { transferId: fee, type: 'fee', amount: '-0.05', balanceAfter: '5.95', counterparty: null },
    ])
    expect((await erin.ask('GET', `/v1/transfers/${sent.id}/entries`)).body.items).toHaveLength(1)
    const { body } = await dora.ask('GET', `/v1/wallets/${from.id}/entries?limit=1`)
    expect(body.items).toMatchObject([
      { transferId: fee, type: 'fee', amount: '-0.05', balanceAfter: '5.95' },
    ])
    const today = dayOf(Date.now())
    const { closing, entries } = await csvOf(dora, from, today, today)
    expect([closing, entries.map(({ type }) => type)]).toEqual(['5.95', ['deposit', 'transfer', 'fee']])
  } finally {
    await sql`delete from ledger.entries where transfer_id = ${fee}`
    await sql`delete from ledger.transfers where id = ${fee}`
    await sql`update ledger.wallets set sequence = 2, balance = 600 where id = ${from.id}`
  }
})

test('a long history comes in pages and whole; a PDF of it is refused', async () => {
  // Inserted into the tables, because 30,000 requests would take too long, and removed afterwards.
  const COUNT = 30_000
  const carol = await makePerson('Carol Jones')
  const long = await openWallet(carol, 'CHF')
  const outside = randomUUID()
  try {
    await sql`
      insert into ledger.transfers (id, type, status, user_id, from_wallet, to_wallet, to_sequence, amount, currency,
        fingerprint, requested_at, decided_at, partition, seq)
      select md5(${long.id} || n)::uuid, 'deposit', 'completed', ${carol.id}, ${outside}, ${long.id}, n, 1, 'CHF', '',
        timestamptz '2025-01-01' + n * interval '1 second', timestamptz '2025-01-01' + n * interval '1 second', 0, -n
      from generate_series(1, ${COUNT}::int) n`
    await sql`
      insert into ledger.entries (wallet_id, sequence, transfer_id, amount, balance_after)
      select ${long.id}, n, md5(${long.id} || n)::uuid, 1, n from generate_series(1, ${COUNT}::int) n`
    await sql`update ledger.wallets set sequence = ${COUNT}, balance = ${COUNT} where id = ${long.id}`

    const { opening, closing, entries } = await csvOf(carol, long, '2025-01-01', '2025-01-31')
    expect([opening, closing, entries.length]).toEqual(['0.00', '300.00', COUNT])
    const refused = await statementOf(carol, long, '2025-01-01', '2025-01-31', 'pdf')
    const { detail } = (await refused.json()) as { detail: string }
    expect([refused.status, detail]).toEqual([
      422,
      'format: a PDF has at most 1000 entries, here are 30000: take csv or fewer days',
    ])
    // A client that disconnects in the middle ends its statement, and the next one is served.
    const leaving = await statementOf(carol, long, '2025-01-01', '2025-01-31')
    await leaving.body!.getReader().cancel()
    await vi.waitFor(async () =>
      expect((await statementOf(carol, long, '2025-01-01', '2025-01-01')).status).toBe(200),
    )
  } finally {
    await sql`delete from ledger.entries where wallet_id = ${long.id}`
    await sql`delete from ledger.transfers where to_wallet = ${long.id}`
    await sql`update ledger.wallets set sequence = 0, balance = 0 where id = ${long.id}`
  }
})

describe('refused', () => {
  const today = dayOf(Date.now())
  const yesterday = dayOf(Date.now() - DAY_MS)
  const inTwoDays = dayOf(Date.now() + 2 * DAY_MS)

  test.each([
    [`from=${today}&to=${yesterday}`, 'from: must not be after to'],
    [`from=2024-01-01&to=2025-01-01`, 'to: must be less than 366 days after from'],
    [`from=${inTwoDays}&to=${inTwoDays}`, 'from: must not be in the future'],
    [`from=2026-02-30&to=${today}`, 'from: must be a day such as 2026-01-31'],
    ['from=0000-01-01&to=0000-01-02', 'from: must be in 1970 or later'],
    [`to=${today}`, 'from: '],
    [`from=${today}&to=${today}&format=xls`, 'format: '],
    [`from=${today}&to=${today}&page=2`, 'page: is not a known field'],
  ])('a statement of %s', async (query, detail) => {
    const { status, body } = await alice.ask('GET', `/v1/wallets/${wallet.id}/statement?${query}`)
    expect([status, body.code]).toEqual([422, 'VALIDATION_ERROR'])
    expect(body.detail).toContain(detail)
  })

  test.each([
    [`${inTwoDays}T00:00:00Z`, 'at: must not be in the future (now: '],
    ['9999-12-31T23:59:59Z', 'at: must not be in the future (now: '],
    ['2026-01-31T09:30:00+00:00', 'at: must have its + percent-encoded as %2B'],
    ['2026-01-31', 'at: must be a date and time such as'],
    ['2026-01-31T09:30:00', 'at: must be a date and time such as'],
    ['0001-01-01T00:00:00Z', 'at: must be in 1970 or later'],
  ])('a balance at %s', async (at, detail) => {
    const { status, body } = await alice.ask('GET', `/v1/wallets/${wallet.id}/balance?at=${at}`)
    expect([status, body.code]).toEqual([422, 'VALIDATION_ERROR'])
    expect(body.detail).toContain(detail)
  })

  test('a running month ends now; a day that has begun in the east has no entries yet', async () => {
    const month = today.slice(0, 8)
    const running = await statementOf(alice, wallet, `${month}01`, `${month}28`)
    expect(running.status).toBe(200)
    const last = today < `${month}28` ? today : `${month}28`
    expect(await running.text()).toContain(`closing_balance,${last},`)
    const tomorrow = dayOf(Date.now() + DAY_MS)
    const east = await statementOf(alice, wallet, today, tomorrow)
    expect([east.status, typeof (await east.text())]).toEqual([200, 'string'])
  })

  test('RFC 3339 in lower case', async () => {
    const { body } = await alice.ask('GET', `/v1/wallets/${wallet.id}/balance?at=2026-01-31t09:30:00z`)
    expect(body.at).toBe('2026-01-31T09:30:00.000Z')
  })

  test('a leap year is not too long, and an offset says the same moment', async () => {
    expect((await statementOf(alice, wallet, '2024-01-01', '2024-12-31')).status).toBe(200)
    const at = encodeURIComponent('2026-01-31T10:30:00+01:00')
    const { body } = await alice.ask('GET', `/v1/wallets/${wallet.id}/balance?at=${at}`)
    expect(body.at).toBe('2026-01-31T09:30:00.000Z')
  })

  test("somebody else's wallet is none, and nobody is told without signing in", async () => {
    for (const path of [`statement?from=${today}&to=${today}`, 'balance', `balance?at=${today}T00:00:00Z`]) {
      const { status, body } = await alice.ask('GET', `/v1/wallets/${bobs.id}/${path}`)
      expect([status, body.code]).toEqual([404, 'WALLET_NOT_FOUND'])
      expect((await ask('GET', `/v1/wallets/${bobs.id}/${path}`)).status).toBe(401)
    }
  })
})
