import type { Database } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import {
  createGatewayDatabase,
  decodeOutbox,
  destroyPersonKey,
  readPinLocks,
  setClocks,
} from '../sql/test-database.ts'
import { createTestGateway, createTestKeys, type TestGateway, type TestKeys } from '../test-gateway.ts'

const { superuserUrl, redisUrl } = inject('stack')

const PIN = '482915'
const WRONG = '592817'

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
let gateways: [TestGateway, TestGateway]
let gateway: TestGateway

beforeAll(async () => {
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  keys = await createTestKeys()
  const open = () => createTestGateway({ sql, databaseUrl: database.url, redisUrl, keys })
  gateways = [await open(), await open()]
  gateway = gateways[0]
  for (const each of gateways) await vi.waitFor(() => each.identity.check())
})

afterAll(async () => {
  for (const each of gateways) each.stop()
  keys.remove()
  await sql.end()
  await database.drop()
})

const userWithPin = async () => {
  const user = await gateway.signedInUser()
  const set = await gateway.ask('POST', '/v1/pin', { token: user.accessToken, body: { pin: PIN } })
  expect([set.status, set.body]).toEqual([201, { pinSet: true }])
  return user
}
const verify = (user: { accessToken: string }, pin: string, through = gateway) =>
  through.ask('POST', '/v1/pin/verify', { token: user.accessToken, body: { pin } })

test('a right PIN gives a step-up token for this session', async () => {
  const user = await userWithPin()
  const { status, body } = await verify(user, PIN)
  expect(status).toBe(200)
  expect(Date.parse(body.expiresAt)).toBeGreaterThan(Date.now() + 290_000)
  const session = await gateway.identity.tokens.verifyAccess(user.accessToken)
  const { at } = await gateway.identity.tokens.verifyStepUp(body.stepUpToken, session)
  expect(Math.abs(at.getTime() - Date.now())).toBeLessThan(10_000)
  const asAccess = await gateway.ask('GET', '/v1/users/me', { token: body.stepUpToken })
  expect([asAccess.status, asAccess.body.code]).toEqual([401, 'TOKEN_INVALID'])
})

test('setting: trivial ones are refused, a second one too; none set is told', async () => {
  const user = await gateway.signedInUser()
  expect((await verify(user, PIN)).body).toMatchObject({ code: 'PIN_NOT_SET', status: 400 })
  const trivial = await gateway.ask('POST', '/v1/pin', { token: user.accessToken, body: { pin: '1234' } })
  expect([trivial.status, trivial.body.errors[0].field]).toEqual([422, 'pin'])
  const answers = await Promise.all(
    [PIN, WRONG, PIN].map(pin => gateway.ask('POST', '/v1/pin', { token: user.accessToken, body: { pin } })),
  )
  expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409])
  expect((await verify(user, '1234')).body.code).toBe('INVALID_PIN') // any well-formed one may be tried
})

test('three wrong in a row lock at once, for the right one as well, until the lock has run out', async () => {
  const user = await userWithPin()
  expect((await verify(user, WRONG)).body).toMatchObject({
    code: 'INVALID_PIN',
    status: 403,
    attemptsRemaining: 2,
  })
  expect((await verify(user, WRONG)).body).toMatchObject({ code: 'INVALID_PIN', attemptsRemaining: 1 })
  const third = await verify(user, WRONG)
  expect([third.status, third.body.code]).toEqual([423, 'PIN_LOCKED'])
  const hours = (Date.parse(third.body.lockedUntil) - Date.now()) / 3_600_000
  expect(hours).toBeGreaterThan(23.9)
  expect(hours).toBeLessThanOrEqual(24)
  expect((await verify(user, PIN)).body).toMatchObject({
    code: 'PIN_LOCKED',
    lockedUntil: third.body.lockedUntil,
  })

  await setClocks.endPinLock(sql, user.id)
  expect((await verify(user, WRONG)).body.attemptsRemaining).toBe(2) // counting begins anew
  expect((await verify(user, PIN)).status).toBe(200)
  const events = (await decodeOutbox(sql, gateway.codec)).filter(
    ({ key, topic }) => key === user.id && topic === 'identity.events',
  )
  const names = events.map(({ type }) => type.split('.').at(-1)).filter(name => name?.startsWith('Pin'))
  expect(names).toEqual(['PinSet', 'PinFailed', 'PinFailed', 'PinFailed', 'PinLocked', 'PinFailed'])
})

test('a right one resets the count', async () => {
  const user = await userWithPin()
  for (let round = 0; round < 3; round++) {
    expect((await verify(user, WRONG)).body.attemptsRemaining).toBe(2)
    expect((await verify(user, WRONG)).body.attemptsRemaining).toBe(1)
    expect((await verify(user, PIN)).status).toBe(200)
  }
})

test.each([
  ['one gateway', 1],
  ['two gateways', 2],
])('any number of wrong ones at once through %s are three tries, and lock', async (_name, count) => {
  const user = await userWithPin()
  const answers = await Promise.all(
    Array.from({ length: 9 }, (_, index) => verify(user, WRONG, gateways[index % count]!)),
  )
  const codes = answers.map(({ body }) => body.code)
  expect(codes.filter(code => code === 'INVALID_PIN').length).toBeLessThanOrEqual(2)
  expect(codes.filter(code => code === 'PIN_LOCKED').length).toBeGreaterThanOrEqual(7)
  expect((await verify(user, PIN)).body.code).toBe('PIN_LOCKED')
  const failures = (await decodeOutbox(sql, gateway.codec)).filter(
    ({ key, type }) => key === user.id && type === 'pennywire.identity.PinFailed',
  )
  expect(failures.length).toBe(3)
})

test('the third lock within 30 days asks for the wallets to be frozen, and so does each further one', async () => {
  const user = await userWithPin()
  const lock = async () => {
    await setClocks.endPinLock(sql, user.id)
    // At once through both gateways: several see the lock, and it counts once.
    const answers = await Promise.all([0, 1, 0].map(at => verify(user, WRONG, gateways[at])))
    expect(answers.some(({ body }) => body.code === 'PIN_LOCKED')).toBe(true)
  }
  await lock()
  await lock()
  expect(await readPinLocks(sql, user.id)).toEqual([false, false])
  await setClocks.agePinLocks(sql, user.id)
  await lock()
  await lock()
  expect(await readPinLocks(sql, user.id)).toEqual([false, false, false, false])
  await lock()
  expect(await readPinLocks(sql, user.id)).toEqual([false, false, false, false, true])
  await lock()
  expect(await readPinLocks(sql, user.id)).toEqual([false, false, false, false, true, true])
})

test('right ones at once are all right: none is mistaken for a fourth try', async () => {
  const user = await userWithPin()
  const answers = await Promise.all(Array.from({ length: 8 }, () => verify(user, PIN)))
  expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(200))
})

test('what is written about a person is readable until their key is destroyed', async () => {
  const user = await gateway.signUp()
  const other = await gateway.signUp()
  const { personKeys } = gateway.identity
  const cipher = await personKeys.encryptFor(user.id, 'for the rent', 'note')
  expect(cipher.includes('rent')).toBe(false)
  expect(await personKeys.encryptFor(user.id, 'for the rent', 'note')).not.toEqual(cipher)
  expect(await personKeys.decryptFor(user.id, cipher, 'note')).toBe('for the rent')
  await expect(personKeys.decryptFor(user.id, cipher, 'metadata')).rejects.toThrow()
  await expect(personKeys.decryptFor(other.id, cipher, 'note')).rejects.toThrow()
  await destroyPersonKey(sql, user.id)
  const elsewhere = gateways[1].identity.personKeys
  expect(await elsewhere.decryptFor(user.id, cipher, 'note')).toBeNull()
  const theirs = await elsewhere.encryptFor(other.id, 'mine', 'note')
  expect(
    await elsewhere.decryptAll([
      { userId: user.id, cipher, purpose: 'note' },
      { userId: other.id, cipher: theirs, purpose: 'note' },
    ]),
  ).toEqual([null, 'mine'])
})
