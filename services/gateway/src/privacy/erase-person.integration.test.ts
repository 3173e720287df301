// What erasing a person clears in the gateway's database, by real rows in all of its tables, and what two at once do.
import { randomBytes, randomUUID } from 'node:crypto'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { createInTransaction } from '../outbox/in-transaction.ts'
import { createGatewayDatabase, decodeOutbox, dumpTables, holdUser } from '../sql/test-database.ts'
import { createTestGateway, createTestKeys, type TestGateway, type TestKeys } from '../test-gateway.ts'
import { CHECK_AFTER_MS, createErasePerson, type ErasePerson } from './erase-person.ts'
import { CLEAR_OUTS } from './sql/clear-person.ts'
import { claimErasure } from './sql/erasures.ts'
import {
  createLedgerViews,
  fillEveryTable,
  makeCheckDue,
  openLateWallet,
  readColumnsOfUsers,
  setWallets,
} from './sql/test-database.ts'

const { superuserUrl, redisUrl } = inject('stack')
const TRACE = '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01'

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let owner: Database
let keys: TestKeys
let gateway: TestGateway
let erasePerson: ErasePerson
const toldBlocked: string[] = []

beforeAll(async () => {
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  owner = openDatabase(database.urlAs('pennywire_owner'), { applicationName: 'test', maxConnections: 2 })
  await createLedgerViews(owner)
  keys = await createTestKeys()
  gateway = await createTestGateway({ sql, databaseUrl: database.url, redisUrl, keys })
  await vi.waitFor(() => gateway.identity.check())
  const { identity, codec } = gateway
  erasePerson = createErasePerson({
    ...{ sql, ledgerRead: owner, codec, clock: systemClock, announce: identity.announce },
    inTransaction: createInTransaction(sql, () => {}),
    tellBlocked: async (_tx, userId) => void toldBlocked.push(userId),
    pushEnded: identity.pushEnded,
    forget: userId => {
      identity.names.forget(userId)
      identity.personKeys.forget(userId)
    },
  })
})
afterAll(async () => {
  gateway.stop()
  keys.remove()
  await Promise.all([sql.end(), owner.end()])
  await database.drop()
})

const decide = (userId: string) =>
  erasePerson.decide({
    ...{ userId, source: 'command' as const, byUserId: null, reason: null, dueAt: new Date() },
  })
const eraseNow = async (userId: string) => {
  await decide(userId)
  return erasePerson.erase(userId, TRACE)
}
/** A person with a marker in every column that holds text or bytes about them. */
const makeMarked = async () => {
  const marker = `Z${randomBytes(10).toString('hex').replaceAll(/[0-9]/g, 'q')}`
  const user = await gateway.signedInUser({
    fullName: `Marked ${marker}`,
    email: `${marker.toLowerCase()}@example.com`,
  })
  await fillEveryTable(owner, user.id, marker)
  return { ...user, marker }
}
/** The rows that hold a marker, by table: as text, or within bytes. */
const tablesWith = async (marker: string) => {
  const hex = Buffer.from(marker).toString('hex')
  const lower = marker.toLowerCase()
  const rows = (await dumpTables(owner)).split('\n').map(row => row.toLowerCase())
  return [
    ...new Set(rows.filter(row => row.includes(lower) || row.includes(hex)).map(row => row.split(' ')[0]!)),
  ].sort()
}

test('every table that names a user is cleared, or is known to hold nothing personal', async () => {
  const known: Record<string, string> = {
    erasures: 'that the person is erased, when and by whom: ids and times',
    export_parts: 'goes with exports',
  }
  const tables = await readColumnsOfUsers(owner)
  expect(tables.filter(table => !(table in CLEAR_OUTS) && !(table in known))).toEqual([])
  // Neither list names a table that is gone.
  const all = [...tables, 'users', 'refresh_tokens']
  expect([...Object.keys(CLEAR_OUTS), ...Object.keys(known)].filter(table => !all.includes(table))).toEqual(
    [],
  )
})

test('a marker in every table: none is left, and the person is as good as unknown', async () => {
  const { id, marker, email, password, accessToken } = await makeMarked()
  const before = await tablesWith(marker)
  // Beside those that hold no text: of exports the parts, keys and locks of PINs.
  const without = ['exports', 'person_keys', 'pin_locks']
  const expected = [...Object.keys(CLEAR_OUTS), 'export_parts'].filter(table => !without.includes(table))
  expect(before).toEqual(expected.sort())
  expect((await eraseNow(id)).state).toBe('erased')
  expect(await tablesWith(marker)).toEqual([])
  expect(await tablesWith(email)).toEqual([])
  const login = await gateway.ask('POST', '/v1/auth/login', { body: { email, password } })
  expect(login.body.code).toBe('INVALID_CREDENTIALS')
  await vi.waitFor(async () => {
    const me = await gateway.ask('GET', '/v1/users/me', { token: accessToken })
    expect(me.body.code).toBe('ACCOUNT_DISABLED')
  })
  const names = await gateway.identity.names.namesOf([id])
  expect(names.get(id)).toEqual({ fullName: 'Erased user', masked: 'Erased user' })
  const events = (await decodeOutbox(sql, gateway.codec)).filter(({ key }) => key === id)
  expect(events.at(-1)).toMatchObject({
    type: 'pennywire.identity.UserErased',
    value: { userId: id, source: 'command', byUserId: null, reason: null },
  })
})

describe('planted: each part that is left out is found', () => {
  test.each(Object.keys(CLEAR_OUTS))('%s', async table => {
    const { id, marker } = await makeMarked()
    const forgotten = CLEAR_OUTS[table]!
    CLEAR_OUTS[table] = async () => {}
    try {
      // What the users' constraint or a foreign key would refuse is a failure, too.
      const outcome = await eraseNow(id).then(
        () => tablesWith(marker),
        error => [String(error)],
      )
      if (['person_keys', 'pin_locks'].includes(table)) {
        const left = await owner`select from ${owner(`gateway.${table}`)} where user_id = ${id}`
        expect(left.length).toBe(1)
      } else expect(outcome).not.toEqual([])
    } finally {
      CLEAR_OUTS[table] = forgotten
    }
  })
})

test('an erased person stays erased: every write of something personal is refused', async () => {
  const { id } = await gateway.signedInUser()
  await eraseNow(id)
  const write = (change: string) => owner.unsafe(`update gateway.users set ${change} where id = '${id}'`)
  for (const change of [
    `full_name = 'Late Rename'`,
    `email = 'late@example.com'`,
    `password_hash = 'x'`,
    `disabled_at = null`,
    `roles = '{user,admin}'`,
    `email_verified_at = now()`,
  ]) {
    await expect(write(change), change).rejects.toThrow('users_erased')
  }
  const { personKeys } = gateway.identity
  await expect(personKeys.encryptFor(id, 'text', 'note')).rejects.toMatchObject({ code: 'PERSON_ERASED' })
})

test('a sign-in, a rename and a new API key that meet the erasure: each ends before, or does not happen', async () => {
  const user = await gateway.signedInUser()
  const held = await holdUser(sql, user.id)
  const erasing = eraseNow(user.id)
  // The erasure decides first, and waits for the user's lock.
  await vi.waitFor(async () => expect(await held.waiting()).toBeGreaterThanOrEqual(1))
  const late = Promise.all([
    gateway.ask('POST', '/v1/auth/login', { body: { email: user.email, password: user.password } }),
    gateway.ask('PATCH', '/v1/users/me', { token: user.accessToken, body: { fullName: 'Late Name' } }),
    gateway.ask('POST', '/v1/api-keys', {
      ...{
        token: user.accessToken,
        body: { name: 'Late key', scopes: ['wallets:read'], password: user.password },
      },
    }),
  ])
  await vi.waitFor(async () => expect(await held.waiting()).toBeGreaterThanOrEqual(2))
  await held.release()
  expect((await erasing).state).toBe('erased')
  await late
  const [row] = await owner`select full_name, email from gateway.users where id = ${user.id}`
  expect(row).toEqual({ full_name: '', email: `${user.id}@erased.invalid` })
  // What still came in is cleared at the last look.
  expect(await erasePerson.checkErased(user.id, TRACE)).toBe(true)
  const [left] = await owner`
    select (select count(*)::int from gateway.sessions where user_id = ${user.id} and ended_at is null) as sessions,
      (select count(*)::int from gateway.sessions where user_id = ${user.id} and device is not null) as devices,
      (select count(*)::int from gateway.logins where user_id = ${user.id}) as logins,
      (select count(*)::int from gateway.api_keys where user_id = ${user.id} and (ended_at is null or length(name) > 0)) as keys`
  expect(left).toEqual({ sessions: 0, devices: 0, logins: 0, keys: 0 })
})

test('two at once, through two gateways: one event', async () => {
  const { id } = await gateway.signedInUser()
  await decide(id)
  const both = await Promise.all([erasePerson.erase(id, TRACE), erasePerson.erase(id, TRACE)])
  expect(both.map(({ state }) => state)).toEqual(['erased', 'erased'])
  const told = (await decodeOutbox(sql, gateway.codec)).filter(
    ({ key, type }) => key === id && type === 'pennywire.identity.UserErased',
  )
  expect(told).toHaveLength(1)
  await expect(decide(id)).rejects.toMatchObject({ code: 'PERSON_ERASED' })
})

test('wallets are closed by the ledger first; a refusal begins another attempt; money stands in the way', async () => {
  const { id } = await gateway.signedInUser()
  const walletId = randomUUID()
  await setWallets(owner, id, [{ id: walletId, balance: 5n, status: 'active' }])
  await expect(decide(id)).rejects.toMatchObject({
    code: 'ERASURE_BLOCKED',
    members: { blockers: [{ code: 'WALLET_HAS_BALANCE', walletId, amount: '0.05', currency: 'USD' }] },
  })
  await setWallets(owner, id, [{ id: walletId, balance: 0n, status: 'active' }])
  await decide(id)
  const closes = async () =>
    (await decodeOutbox(sql, gateway.codec)).flatMap(({ type, value }) =>
      type === 'pennywire.ledger.WalletCloseRequested' && value.walletId === walletId
        ? [value.commandId]
        : [],
    )
  const erasing = erasePerson.erase(id, TRACE)
  await vi.waitFor(async () => expect(await closes()).toHaveLength(1))
  // Meanwhile the key is whole: nothing is destroyed before the wallets are closed.
  expect(await owner`select from gateway.person_keys where user_id = ${id}`).toHaveLength(1)
  await setWallets(owner, id, [{ id: walletId, balance: 0n, status: 'closed' }])
  expect((await erasing).state).toBe('erased')

  // A wallet that a request in flight opened is closed at the last look, under another id.
  await openLateWallet(owner, id, walletId, (await closes()).at(-1)!)
  await makeCheckDue(owner, id)
  expect(await claimErasure(sql, 60_000)).toEqual({ userId: id, isErased: true })
  expect(await erasePerson.checkErased(id, TRACE)).toBe(false)
  const ids = await closes()
  expect(new Set(ids).size).toBe(2)
  await setWallets(owner, id, [{ id: walletId, balance: 0n, status: 'closed' }])
  expect(await erasePerson.checkErased(id, TRACE)).toBe(true)
  await makeCheckDue(owner, id)
  expect(await claimErasure(sql, 60_000)).toBeUndefined()
  expect(CHECK_AFTER_MS).toBeGreaterThan(2 * 60_000)
})

test('what a user asked for waits while staff have deactivated the account; staff and operators go on', async () => {
  const { id } = await gateway.signedInUser()
  const dueAt = new Date()
  await erasePerson.decide({ userId: id, source: 'self', byUserId: id, reason: null, dueAt })
  await owner`update gateway.users set disabled_at = now(), disabled_source = 'staff' where id = ${id}`
  expect(await erasePerson.erase(id, TRACE)).toEqual({
    state: 'blocked',
    blockers: [{ code: 'DEACTIVATED_BY_STAFF' }],
  })
  // The user's wish stays, and is tried again in an hour; they are told once.
  expect((await erasePerson.erase(id, TRACE)).state).toBe('blocked')
  expect(toldBlocked).toEqual([id])
  expect(await claimErasure(sql, 60_000)).toBeUndefined()
  expect(await owner`select blocked from gateway.erasures where user_id = ${id}`).toEqual([
    { blocked: [{ code: 'DEACTIVATED_BY_STAFF' }] },
  ])
  expect((await eraseNow(id)).state).toBe('erased')
  expect(await owner`select source from gateway.erasures where user_id = ${id}`).toEqual([
    { source: 'command' },
  ])
})
