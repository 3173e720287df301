// What staff ask of the history over HTTP: the audit log by each filter, the timeline of money of every kind, and the
// balance of any wallet at any time, against traffic of this test.
import { randomUUID } from 'node:crypto'
import { referenceOf } from '@pennywire/contracts/ids.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import {
  type Answer,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  type Staff,
  send,
  signIn,
  type Wallet,
} from './client.ts'
import { type Receiver, startReceiver } from './webhook-receiver.ts'

// biome-ignore lint/suspicious/noExplicitAny: a JSON document
type Json = any

let admin: Staff
let moderator: Staff
let alice: Person
let bob: Person
let from: Wallet
let to: Wallet
let hook: Receiver
let made: string
let spare: string
let paid: Answer
let refused: Answer
const requestId = `audit-log-${randomUUID()}`
const traceId = randomUUID().replaceAll('-', '')

const until = <Result>(work: () => Promise<Result>) => vi.waitFor(work, { timeout: 20_000, interval: 200 })
const outcomeOf = ({ status, body }: Answer) => (body?.code === undefined ? status : `${status} ${body.code}`)
const search = async (query: Record<string, string>): Promise<Json[]> => {
  const found = await admin.ask('GET', `/v1/admin/audit-logs?${new URLSearchParams(query)}`)
  expect([found.status, found.body.detail]).toEqual([200, undefined])
  return found.body.items
}
const actionsOf = async (query: Record<string, string>) => (await search(query)).map(({ action }) => action)

beforeAll(async () => {
  admin = await makeStaff('admin', 'Ada Auditor')
  moderator = await makeStaff('moderator')
  alice = await makePerson('Alice Smith')
  bob = await makePerson('Bob Brown')
  hook = await startReceiver()
  const added = await bob.ask('POST', '/v1/webhooks', { url: hook.url, password: bob.password })
  expect(added.status).toBe(201)
  made = added.body.id
  spare = (await bob.ask('POST', '/v1/webhooks', { url: `${hook.url}/spare`, password: bob.password })).body
    .id
  from = await openWallet(alice, 'USD', '100')
  to = await openWallet(bob, 'USD')
  paid = await send(alice, to, '12.50', randomUUID(), {
    body: { note: 'a private note' },
    headers: { 'x-request-id': requestId, traceparent: `00-${traceId}-00f067aa0ba902b7-01` },
  })
  expect(outcomeOf(paid)).toBe(201)
  refused = await send(alice, to, '900')
  expect(outcomeOf(refused)).toBe('402 INSUFFICIENT_BALANCE')
  // Once the last record is found, so are those before it.
  await until(async () => expect(await actionsOf({ requestId })).toContain('TransferCompleted'))
})
afterAll(() => hook?.close())

describe('the audit log', () => {
  test('one request is found by its id, its trace and its transfer: what was asked, by whom, and what was decided', async () => {
    for (const query of [{ requestId }, { traceId }, { transferId: paid.body.id }]) {
      const items = await search(query)
      const command = items.find(({ action }) => action === 'TransferRequested')
      const event = items.find(({ action }) => action === 'TransferCompleted')
      expect(command).toMatchObject({
        ...{ topic: 'ledger.commands', verified: true, requestId, traceId, refusal: null },
        actor: { userId: alice.id, role: 'user', apiKeyId: null },
        addressHash: expect.stringMatching(/^[\w-]+\.[\w-]{43}$/),
        data: { amountMinor: '1250', currency: 'USD', userId: alice.id },
      })
      expect(event).toMatchObject({
        ...{ topic: 'ledger.events', partition: command.partition, verified: true, requestId, traceId },
        actor: { userId: alice.id },
        subjects: expect.arrayContaining([
          { kind: 'user', id: bob.id },
          { kind: 'wallet', id: to.id },
          { kind: 'transfer', id: paid.body.id },
        ]),
      })
      expect(JSON.stringify(items)).not.toMatch(/private note|fingerprint|"note"/)
    }
  })

  test('each filter finds what it names and nothing else', async () => {
    const beforeIt = new Date(Date.parse(paid.body.requestedAt) - 1).toISOString()
    const CASES: Array<[query: Record<string, string>, holds: (item: Json) => boolean]> = [
      [{ actorId: alice.id }, ({ actor }) => actor.userId === alice.id],
      [{ role: 'admin' }, ({ actor }) => actor.role === 'admin'],
      [{ action: 'TransferCompleted' }, ({ action }) => action === 'TransferCompleted'],
      [{ topic: 'identity.events' }, ({ topic }) => topic === 'identity.events'],
      [{ refused: 'true' }, ({ refusal }) => refusal !== null],
      ...[
        ['userId', 'user', bob.id],
        ['walletId', 'wallet', from.id],
        ['transferId', 'transfer', paid.body.id],
      ].map(([name, kind, id]): (typeof CASES)[number] => [
        { [name!]: id! },
        ({ subjects }) => subjects.some((one: Json) => one.kind === kind && one.id === id),
      ]),
      [{ userId: alice.id, to: beforeIt }, ({ at }) => at < beforeIt],
      [{ userId: alice.id, from: beforeIt }, ({ at }) => at >= beforeIt],
    ]
    for (const [query, holds] of CASES) {
      const items = await search(query)
      expect([query, items.length > 0, items.filter(item => !holds(item))]).toEqual([query, true, []])
      const times = items.map(({ at }) => at)
      expect(times).toEqual(times.toSorted().reverse())
    }
    const both = { userId: bob.id, walletId: from.id, actorId: alice.id, action: 'TransferCompleted' }
    expect(
      (await search(both)).map(({ subjects }) => JSON.stringify(subjects).includes(paid.body.id)),
    ).toEqual([true])
    expect(await search({ ...both, actorId: bob.id })).toEqual([])
    expect(await search({ targetKind: 'session', targetId: alice.id })).toEqual([])
    // The tests come from this machine; the hash is made of the address in clear.
    expect((await search({ address: '127.0.0.1', actorId: alice.id })).length).toBeGreaterThan(0)
    expect((await search({ address: '::ffff:127.0.0.1', actorId: alice.id })).length).toBeGreaterThan(0)
    expect(await search({ address: '203.0.113.77' })).toEqual([])
  })

  test('pages hold every record once, newest first', async () => {
    const whole = await search({ userId: alice.id, limit: '100' })
    const ids: string[] = []
    let cursor: string | null = ''
    for (let n = 0; cursor !== null && n < 100; n++) {
      const page: Answer = await admin.ask(
        'GET',
        `/v1/admin/audit-logs?userId=${alice.id}&limit=2${cursor && `&cursor=${cursor}`}`,
      )
      ids.push(...page.body.items.map(({ id }: Json) => id))
      cursor = page.body.nextCursor
    }
    // The searches themselves are recorded meanwhile, ahead of the first page.
    expect(new Set(ids).size).toBe(ids.length)
    expect(ids).toEqual(expect.arrayContaining(whole.map(({ id }) => id)))
  })

  test('staff actions state who, in which role, before, after and why', async () => {
    const frozen = await moderator.ask('POST', `/v1/admin/wallets/${to.id}/freeze`, { reason: 'case 4711' })
    expect(frozen.status).toBe(200)
    const role = { role: 'moderator' }
    const chief = await makeStaff('super_admin')
    expect((await chief.ask('PATCH', `/v1/admin/users/${alice.id}/role`, role)).status).toBe(200)
    expect((await chief.ask('PATCH', `/v1/admin/users/${alice.id}/role`, { role: 'user' })).status).toBe(200)
    for (const daily of ['500', '700'])
      expect((await admin.ask('PUT', `/v1/admin/wallets/${from.id}/limits/send`, { daily })).status).toBe(200)
    await until(async () => {
      const [limit] = await search({ walletId: from.id, action: 'LimitChanged' })
      expect(limit).toMatchObject({
        actor: { userId: admin.id, role: 'admin' },
        change: { before: { dailyMinor: '50000' }, after: { dailyMinor: '70000' } },
      })
    })
    const [freeze] = await search({ walletId: to.id, action: 'WalletFrozen' })
    expect(freeze).toMatchObject({
      actor: { userId: moderator.id, role: 'moderator' },
      ...{ reason: 'case 4711', requestId: expect.any(String) },
      change: { before: { frozenBy: null }, after: { frozenBy: 'staff' } },
    })
    const [changed] = await search({ userId: alice.id, action: 'RoleChanged', role: 'super_admin' })
    expect(changed).toMatchObject({
      actor: { userId: chief.id, role: 'super_admin' },
      change: { before: { role: 'moderator' }, after: { role: 'user' } },
      addressHash: expect.any(String),
    })
    const disabled = await admin.ask('POST', `/v1/admin/users/${bob.id}/webhooks/${spare}/disable`, {
      reason: 'floods others',
    })
    expect(disabled.status).toBe(200)
    await until(async () => {
      const [told] = await search({
        ...{ targetKind: 'webhook', targetId: spare, role: 'admin', action: 'WebhookChanged' },
      })
      expect(told).toMatchObject({
        ...{ action: 'WebhookChanged', reason: 'floods others', requestId: expect.any(String) },
        actor: { userId: admin.id, role: 'admin' },
      })
    })
    const lifted = await moderator.ask('POST', `/v1/admin/wallets/${to.id}/unfreeze`, {})
    expect(lifted.status).toBe(200)
    // A changed role has ended her sessions.
    alice = await signIn(alice.email)
  })

  test('the search is itself recorded, with what was searched for and what was shown', async () => {
    const own = `search-${randomUUID()}`
    const shown = await admin.ask('GET', `/v1/admin/audit-logs?userId=${bob.id}&limit=3`, undefined, {
      'x-request-id': own,
    })
    const ids = shown.body.items.map(({ id }: Json) => id)
    await until(async () => {
      const [view] = await search({ requestId: own })
      expect(view).toMatchObject({
        ...{ action: 'StaffViewed', actor: { userId: admin.id, role: 'admin' } },
        data: { route: '/v1/admin/audit-logs', objectIds: [`user:${bob.id}`, ...ids] },
      })
      // Who looked at Bob is found by Bob.
      expect(view.subjects).toContainEqual({ kind: 'user', id: bob.id })
    })
    const record = JSON.stringify(await search({ requestId: own }))
    expect(record).not.toContain('127.0.0.1')
  })

  test('refused requests of money and staff routes are found: those with a record, and the others by their number', async () => {
    const eve = await makePerson('Eve Small')
    const wallet = await openWallet(eve)
    expect(outcomeOf(await send(eve, to, '1'))).toBe('402 INSUFFICIENT_BALANCE')
    const withoutPin = { toWalletId: to.id, amount: '1', currency: 'USD' }
    for (let n = 0; n < 3; n++)
      expect(
        outcomeOf(await eve.ask('POST', '/v1/transfers', withoutPin, { 'idempotency-key': randomUUID() })),
      ).toBe('403 PIN_REQUIRED')
    for (let n = 0; n < 2; n++)
      expect(outcomeOf(await eve.ask('GET', `/v1/admin/wallets/${wallet.id}`))).toBe(
        '403 INSUFFICIENT_PERMISSIONS',
      )
    const wrong = { pin: '999918', ...withoutPin }
    expect(
      outcomeOf(await eve.ask('POST', '/v1/transfers', wrong, { 'idempotency-key': randomUUID() })),
    ).toBe('403 INVALID_PIN')
    await until(async () =>
      expect(await actionsOf({ userId: eve.id, refused: 'true' })).toEqual(
        expect.arrayContaining(['PinFailed', 'TransferRejected']),
      ),
    )
    const [rejected] = await search({ userId: eve.id, refusal: 'INSUFFICIENT_BALANCE' })
    expect(rejected.action).toBe('TransferRejected')
    // The gateway records its counts once a minute, and when it stops.
    await vi.waitFor(
      async () => {
        const counted = await search({ userId: eve.id, action: 'RequestsRefused' })
        expect(counted.map(({ refusal, data }) => [refusal, data.route, data.count]).sort()).toEqual([
          ['INSUFFICIENT_PERMISSIONS', '/v1/admin/wallets/:id', 2],
          ['PIN_REQUIRED', '/v1/transfers', 3],
        ])
      },
      { timeout: 75_000, interval: 2_000 },
    )
  }, 100_000)

  test.each<[string, string, string]>([
    ['a target without its kind', 'targetId=5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11', 'targetKind: is required'],
    ['an unknown action', 'action=Nothing', 'action: '],
    ['an address that is none', 'address=localhost', 'address: must be an IPv4 or IPv6 address'],
    ['a trace id in upper case', `traceId=${'A'.repeat(32)}`, 'traceId: '],
    ['a foreign cursor', 'cursor=abc', 'cursor: must be the nextCursor'],
    ['an unknown filter', 'note=x', 'note: is not a known field'],
    ['a moment without an offset', 'from=2026-01-01', 'from: '],
  ])('refuses %s, and names the field', async (_what, query, detail) => {
    const answer = await admin.ask('GET', `/v1/admin/audit-logs?${query}`)
    expect([answer.status, answer.body.detail]).toEqual([422, expect.stringContaining(detail)])
  })
})

describe('a timeline', () => {
  const timelineOf = async (id: string): Promise<Json> => {
    const shown = await moderator.ask('GET', `/v1/admin/transfers/${id}/timeline`)
    expect([shown.status, shown.body.detail]).toEqual([200, undefined])
    const { stages, ...timeline } = shown.body
    const isPending = ({ state }: Json) => state === 'pending'
    const names = (of: Json[]) => [...new Set(of.filter(isPending).map(({ stage }) => stage))]
    expect(timeline.pending).toEqual(names(stages))
    // Other tests leave webhooks of the operator, which are told of everything.
    const own = stages.filter(
      ({ stage, delivery }: Json) => stage !== 'webhook' || [made, spare].includes(delivery.webhookId),
    )
    return { ...timeline, stages: own, pending: names(own) }
  }
  /** Once nothing is pending any more. */
  const settled = (id: string, ...stages: string[]) =>
    until(async () => {
      const timeline = await timelineOf(id)
      const seen = timeline.stages.map(({ stage }: Json) => stage)
      expect([timeline.pending, seen]).toEqual([[], expect.arrayContaining(stages)])
      return timeline
    })
  const stageOf = (timeline: Json, stage: string) => timeline.stages.find((one: Json) => one.stage === stage)

  test('a transfer from the request to every consumer and webhook, in one trace, with times and durations', async () => {
    const timeline = await settled(paid.body.id, 'notice', 'webhook')
    expect(timeline).toMatchObject({
      ...{ transferId: paid.body.id, reference: paid.body.reference, type: 'transfer', status: 'completed' },
      traceIds: [traceId],
    })
    expect(timeline.stages.slice(0, 7).map(({ stage, state }: Json) => [stage, state])).toEqual([
      ['request', 'done'],
      ['command', 'done'],
      ['decision', 'done'],
      ['event', 'done'],
      ['audit', 'done'],
      ['gateway', 'done'],
      ['notifier', 'done'],
    ])
    const [request, command, decision, event, audit] = timeline.stages
    expect(request).toMatchObject({ requestId, actor: { userId: alice.id, role: 'user' }, sinceBeginMs: 0 })
    expect(command.record).toMatchObject({ topic: 'ledger.commands', offset: expect.any(Number) })
    expect(event.record).toMatchObject({
      ...{ topic: 'ledger.events', partition: command.record.partition, offset: expect.any(Number) },
      eventId: decision.record?.eventId ?? event.record.eventId,
    })
    for (const stage of [request, command, decision, event, audit, stageOf(timeline, 'notifier')])
      expect(Math.abs(Date.parse(stage.at) - Date.parse(paid.body.requestedAt))).toBeLessThan(60_000)
    expect(decision.sinceBeginMs).toBe(Date.parse(decision.at) - Date.parse(request.at))
    expect(timeline.entries.map(({ amount, balanceAfter }: Json) => [amount, balanceAfter])).toEqual([
      ['-12.50', '87.50'],
      ['12.50', '12.50'],
    ])
    const webhook = stageOf(timeline, 'webhook')
    expect(webhook).toMatchObject({
      ...{ state: 'done', name: 'transfer.completed' },
      delivery: { userId: bob.id, origin: new URL(hook.url).origin, tries: [{ status: 204 }] },
    })
    expect(JSON.stringify(timeline)).not.toMatch(/\/hook|private note/)
  })

  test('the same by its reference, in either case of the id', async () => {
    for (const id of [
      paid.body.reference,
      referenceOf(paid.body.id).toLowerCase(),
      paid.body.id.toUpperCase(),
    ])
      expect((await timelineOf(id)).transferId).toBe(paid.body.id)
  })

  test('a refused transfer tells the refusal', async () => {
    const timeline = await settled(refused.body.transferId, 'notice')
    expect(timeline).toMatchObject({ status: 'rejected', entries: [] })
    expect(stageOf(timeline, 'decision')).toMatchObject({
      ...{ name: 'TransferRejected', detail: expect.stringMatching(/^INSUFFICIENT_BALANCE: /) },
    })
  })

  test('deposit, withdrawal, hold with its capture, and reversal', async () => {
    const body = { walletId: from.id, amount: '5', currency: 'USD' }
    const deposit = await alice.ask('POST', '/v1/deposits', body, { 'idempotency-key': randomUUID() })
    expect((await settled(deposit.body.id, 'payment', 'notice')).type).toBe('deposit')

    const payout = { ...body, destination: 'DE00 0000' }
    const money = () => ({ 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp })
    const withdrawal = await alice.ask('POST', '/v1/withdrawals', payout, money())
    const paidOut = await settled(withdrawal.body.id, 'payment')
    expect(
      paidOut.stages.filter(({ stage }: Json) => stage === 'decision').map(({ name }: Json) => name),
    ).toEqual(['HoldPlaced', 'TransferCompleted'])

    const hold = await alice.ask(
      'POST',
      '/v1/holds',
      { toWalletId: to.id, amount: '3', currency: 'USD' },
      money(),
    )
    expect(hold.status).toBe(201)
    const captured = await bob.ask(
      'POST',
      `/v1/holds/${hold.body.id}/capture`,
      {},
      {
        'idempotency-key': randomUUID(),
      },
    )
    expect([200, 201]).toContain(captured.status)
    const held = await settled(hold.body.id, 'webhook')
    expect(
      held.stages.filter(({ stage }: Json) => stage === 'decision').map(({ name }: Json) => name),
    ).toEqual(['HoldPlaced', 'TransferCompleted'])

    const reversed = await admin.ask(
      'POST',
      `/v1/admin/transfers/${paid.body.id}/reversals`,
      { amount: '2', reason: 'paid too much' },
      { 'idempotency-key': randomUUID() },
    )
    expect(reversed.status).toBe(201)
    const reversal = await settled(reversed.body.id, 'notice')
    expect(stageOf(reversal, 'request')).toMatchObject({ actor: { userId: admin.id, role: 'admin' } })
    // The first transfer's way goes on with it.
    const first = await settled(paid.body.id)
    expect(
      first.stages.filter(({ stage }: Json) => stage === 'decision').map(({ name }: Json) => name),
    ).toEqual(['TransferCompleted', 'TransferReversed'])
  })

  test('a webhook that fails is pending, with its tries', async () => {
    hook.answer(response => response.writeHead(503).end('busy'))
    const second = await send(alice, to, '1')
    const timeline = await until(async () => {
      const shown = await timelineOf(second.body.id)
      expect([shown.pending, stageOf(shown, 'webhook')?.delivery.tries.length]).toEqual([['webhook'], 1])
      return shown
    })
    expect(stageOf(timeline, 'webhook')).toMatchObject({
      ...{ state: 'pending', detail: expect.stringContaining('503') },
      delivery: { attempts: 1, nextAttemptAt: expect.any(String), tries: [{ status: 503 }] },
    })
  })

  test('no such transfer is 404, by id and by reference; nothing else is an id', async () => {
    for (const id of [randomUUID(), referenceOf(randomUUID())])
      expect(outcomeOf(await moderator.ask('GET', `/v1/admin/transfers/${id}/timeline`))).toBe(
        '404 TRANSFER_NOT_FOUND',
      )
    expect(outcomeOf(await moderator.ask('GET', '/v1/admin/transfers/abc/timeline'))).toBe(
      '422 VALIDATION_ERROR',
    )
  })
})

describe('the balance of any wallet at any time', () => {
  let sql: Database
  beforeAll(() => {
    sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test' })
  })
  afterAll(() => sql.end())
  const balanceAt = async (walletId: string, at?: string): Promise<Json> => {
    const shown = await moderator.ask(
      'GET',
      `/v1/admin/wallets/${walletId}/balance${at === undefined ? '' : `?at=${encodeURIComponent(at)}`}`,
    )
    expect([shown.status, shown.body.detail]).toEqual([200, undefined])
    return shown.body
  }

  test('is the sum of the entries at every entry’s time and between, after random traffic, and the event states it', async () => {
    const [payer, payee] = [await makePerson('Pat Payer'), await makePerson('Pia Payee')]
    const [one, two] = [await openWallet(payer, 'EUR', '100'), await openWallet(payee, 'EUR', '100')]
    for (let n = 0; n < 12; n++) {
      const [person, wallet] = Math.random() < 0.5 ? [payer, two] : [payee, one]
      await send(person, wallet, (Math.floor(Math.random() * 2_000 + 1) / 100).toFixed(2))
    }
    for (const wallet of [one, two]) {
      const entries = await sql<Array<{ amount: bigint; at: Date; event: string; transfer: string }>>`
        select e.amount, t.decided_at as at, t.partition || '-' || t.seq as event, t.id as transfer
        from ledger.entries e join ledger.transfers t on t.id = e.transfer_id
        where e.wallet_id = ${wallet.id} order by e.sequence`
      await until(async () => expect((await balanceAt(wallet.id)).proof.offset).not.toBeNull())
      const opened = (await balanceAt(wallet.id)).openedAt
      const beforeOpening = new Date(Date.parse(opened) - 1_000).toISOString()
      for (const at of [beforeOpening, opened])
        expect(await balanceAt(wallet.id, at)).toMatchObject({ balance: '0.00', sequence: 0, proof: null })
      let sum = 0n
      const places = new Set<string>()
      for (const [n, entry] of entries.entries()) {
        sum += entry.amount
        const next = entries[n + 1]?.at.getTime() ?? Date.now()
        const between = Math.floor((entry.at.getTime() + next) / 2)
        // Another entry of the same millisecond is decided at that time too.
        for (const ms of new Set(
          [entry.at.getTime(), between].filter(ms => n === entries.length - 1 || ms < next),
        )) {
          const shown = await balanceAt(wallet.id, new Date(ms).toISOString())
          expect(shown).toMatchObject({
            balance: (Number(sum) / 100).toFixed(2),
            sequence: n + 1,
            proof: {
              ...{ transferId: entry.transfer, eventId: entry.event, topic: 'ledger.events' },
              ...{ statesBalance: true, verified: true },
            },
          })
          places.add(`${shown.proof.partition} ${shown.proof.offset}`)
        }
      }
      expect(places.size).toBeGreaterThan(1)
    }
  })

  test('the owner reads the same', async () => {
    const at = new Date().toISOString()
    const own = await alice.ask('GET', `/v1/wallets/${from.id}/balance?at=${at}`)
    expect(await balanceAt(from.id, at)).toMatchObject({
      balance: own.body.balance,
      sequence: own.body.sequence,
    })
  })

  test('system wallets have one; a wallet that is not is 404; the future is refused by name', async () => {
    const [system] = await sql<Array<{ id: string; system: string; balance: bigint }>>`
      select id, system, balance from ledger.wallets where system like 'external:USD:%' and sequence > 0 limit 1`
    expect(await balanceAt(system!.id)).toMatchObject({ userId: null, system: system!.system })
    const missing = await moderator.ask('GET', `/v1/admin/wallets/${randomUUID()}/balance`)
    expect(outcomeOf(missing)).toBe('404 WALLET_NOT_FOUND')
    const future = new Date(Date.now() + 60_000).toISOString()
    const refused = await moderator.ask('GET', `/v1/admin/wallets/${from.id}/balance?at=${future}`)
    expect([refused.status, refused.body.detail]).toEqual([
      422,
      expect.stringContaining('at: must not be in the future'),
    ])
  })
})
