// Secrets appear in no log, event, table, mail or answer.
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { expect, inject, test, vi } from 'vitest'
import { ask, mailedCode, mailedToken, makePerson, openWallet, type Person, totpCode } from './client.ts'

const silent = createLogger('test', { level: 'silent', instance: 'test' })

const dumpTopics = async (): Promise<string> => {
  const client = createKafkaClient({
    connection: inject('stack').kafka,
    clientId: 'canary',
    logger: silent,
  })
  const texts: string[] = []
  for (const topic of Object.keys(TOPICS) as Topic[]) {
    await readTopic({
      client,
      logger: silent,
      topic,
      handle: records => {
        for (const { key, value, headers } of records) {
          texts.push(
            `${key} ${value?.toString('latin1')} ${headers.map(([name, text]) => `${name}=${text}`).join(' ')}`,
          )
        }
      },
    })
  }
  return texts.join('\n')
}

const dumpDatabase = async (): Promise<string> => {
  const sql = openDatabase(inject('system').databaseUrls.superuser, {
    applicationName: 'canary',
    maxConnections: 1,
  })
  const tables = await sql<{ schema: string; name: string }[]>`
    select table_schema as schema, table_name as name from information_schema.tables
    where table_schema in ('gateway', 'ledger', 'notifier', 'audit') and table_type = 'BASE TABLE'`
  expect(tables.length).toBeGreaterThan(15)
  const texts: string[] = []
  for (const { schema, name } of tables) {
    for (const row of await sql`select t.* from ${sql(`${schema}.${name}`)} t`) {
      for (const value of Object.values(row)) {
        texts.push(
          Buffer.isBuffer(value) ? value.toString('latin1') : String(value instanceof Date ? '' : value),
        )
      }
    }
  }
  await sql.end()
  return texts.join('\n')
}

const dumpLogs = (): string => {
  const logs = join(inject('system').dataDir, 'logs')
  return readdirSync(logs)
    .map(file => readFileSync(join(logs, file), 'utf8'))
    .join('\n')
}

test('a known PIN, password, token, code, secret, note and source are in no log, record, row or error', async () => {
  // Values that occur nowhere else; six digits alone could occur by chance.
  const password = `Canary-${randomUUID()}`
  const note = `note-${randomUUID()}`
  const source = `source-${randomUUID()}`
  const email = `${randomUUID()}@example.com`
  const pin = '738264'
  const wrongPin = '738265'
  await ask('POST', '/v1/auth/signup', { body: { email, password, fullName: 'Canary Bird' } })
  const token = await mailedToken(email)
  await ask('POST', '/v1/auth/verify-email', { body: { token } })
  const login = (await ask('POST', '/v1/auth/login', { body: { email, password } })).body
  const failures = [await ask('POST', '/v1/auth/login', { body: { email, password: `${password}x` } })]
  const as = (method: string, path: string, body: unknown, headers: Record<string, string> = {}) =>
    ask(method, path, { token: login.accessToken, body, headers })
  const canary = { ask: as } as Person
  expect((await as('POST', '/v1/pin', { pin })).status).toBe(201)
  const stepUp = (await as('POST', '/v1/pin/verify', { pin })).body.stepUpToken
  const wallet = await openWallet(canary, 'USD')
  const to = await openWallet(await makePerson('Bob Brown'), 'USD')
  await as(
    'POST',
    '/v1/deposits',
    { walletId: wallet.id, amount: '9', currency: 'USD', source },
    { 'idempotency-key': 'c' },
  )
  const transfer = { toWalletId: to.id, amount: '1', currency: 'USD', note, metadata: { secret: note } }
  const byPin = await as('POST', '/v1/transfers', { ...transfer, pin }, { 'idempotency-key': 'p' })
  const byToken = await as('POST', '/v1/transfers', transfer, {
    'idempotency-key': 's',
    'step-up-token': stepUp,
  })
  expect([byPin.status, byToken.status]).toEqual([201, 201])
  failures.push(
    await as('POST', '/v1/transfers', { ...transfer, pin: wrongPin }, { 'idempotency-key': 'w' }),
    await as('POST', '/v1/pin/verify', { pin: wrongPin }),
    await as('POST', '/v1/pin', { pin }),
    await as('POST', '/v1/pin/verify', { pin, colour: pin }),
    await as('POST', '/v1/pin/verify', `{"pin": "${pin}"`),
    await as('POST', '/v1/transfers', { ...transfer, amount: 'x', pin }, { 'idempotency-key': 'v' }),
    await ask('POST', '/v1/auth/refresh', { body: { refreshToken: `${login.refreshToken}x` } }),
  )
  // A new PIN with a mailed code, and the second factor, with all failures on the way.
  const newPin = '951724'
  expect((await as('POST', '/v1/pin/reset-request', undefined)).status).toBe(202)
  const otp = await mailedCode(email)
  failures.push(
    await as('POST', '/v1/pin/reset', { otp, newPin: '1234' }),
    await as('POST', '/v1/pin/change', { currentPin: wrongPin, newPin }),
    await as('POST', '/v1/auth/2fa/enable', { password: `${password}x` }),
  )
  expect((await as('POST', '/v1/pin/reset', { otp, newPin })).status).toBe(200)
  failures.push(await as('POST', '/v1/pin/reset', { otp, newPin: pin }))
  const offer = (await as('POST', '/v1/auth/2fa/enable', { password })).body
  const code = totpCode(offer.secret, -1)
  const confirmed = await as('POST', '/v1/auth/2fa/confirm', { code })
  expect(confirmed.status).toBe(200)
  const [recoveryCode, unusedCode] = confirmed.body.recoveryCodes
  const second = (await ask('POST', '/v1/auth/login', { body: { email, password } })).body
  const { challengeToken } = second
  expect(second.secondFactorRequired).toBe(true)
  const verify = (proof: object) => ask('POST', '/v1/auth/2fa/verify', { body: { challengeToken, ...proof } })
  failures.push(
    await verify({ code }),
    await verify({ code: offer.secret }),
    await verify({ code, recoveryCode }),
    await as('POST', '/v1/auth/2fa/disable', { password: `${password}x`, code }),
  )
  const verified = await verify({ recoveryCode })
  expect(verified.status).toBe(200)
  failures.push(await verify({ recoveryCode }))
  // A new password, by mailed link and by change, with the failures on the way.
  const nextPassword = `Canary-${randomUUID()}`
  await ask('POST', '/v1/auth/forgot-password', { body: { email } })
  const resetToken = await vi.waitFor(async () => {
    const mailed = await mailedToken(email)
    expect(mailed).not.toBe(token)
    return mailed
  }, 10_000)
  failures.push(
    await ask('POST', '/v1/auth/reset-password', { body: { token: resetToken, password } }),
    await ask('POST', '/v1/auth/reset-password', {
      body: { token: `${resetToken}x`, password: nextPassword },
    }),
    await as('POST', '/v1/auth/change-password', { currentPassword: nextPassword, newPassword: password }),
    await as('POST', '/v1/users/me/deactivate', { password: nextPassword }),
    await ask('POST', '/v1/auth/external', { body: { token: login.accessToken } }),
  )
  // An API key: created, used, rotated, and refused.
  const wanted = { name: 'Back end', scopes: ['transfers:write'], password, pin: newPin }
  const madeKey = (await as('POST', '/v1/api-keys', wanted)).body
  const byKey = (secret: string, headers = {}) =>
    ask('POST', '/v1/transfers', {
      token: secret,
      body: { toWalletId: to.id, amount: '1', currency: 'USD' },
      headers: { 'idempotency-key': 'k', ...headers },
    })
  expect((await byKey(madeKey.secret)).status).toBe(201)
  const proof = { password, pin: newPin, overlapSeconds: 0 }
  const nextKey = (await as('POST', `/v1/api-keys/${madeKey.id}/rotate`, proof)).body
  failures.push(
    await byKey(`${nextKey.secret}x`),
    await byKey(nextKey.secret, { 'idempotency-key': 'l', 'step-up-token': stepUp }),
    await ask('GET', '/v1/users/me', { token: nextKey.secret }),
    await as('POST', '/v1/api-keys', { ...wanted, scopes: [nextKey.secret] }),
    await as('POST', '/v1/api-keys', { ...wanted, pin: wrongPin }),
  )
  expect(failures.every(({ status }) => status >= 400)).toBe(true)
  const changed = { currentPassword: password, newPassword: nextPassword }
  expect((await as('POST', '/v1/auth/change-password', changed)).status).toBe(200)
  // Everything has settled once the audit trail has the last transfer's event.
  const sinks = {
    errors: JSON.stringify(failures.map(({ body }) => body)),
    logs: '',
    topics: '',
    database: '',
  }
  await vi.waitFor(
    async () => {
      sinks.database = await dumpDatabase()
      expect(sinks.database.split(byToken.body.id).length).toBeGreaterThan(6)
    },
    { timeout: 15_000, interval: 200 },
  )
  sinks.topics = await dumpTopics()
  sinks.logs = dumpLogs()
  expect(sinks.topics).toContain(byToken.body.id)
  expect(sinks.logs).toContain('/v1/transfers')

  const [, payload] = login.accessToken.split('.')
  const canaries = {
    password,
    nextPassword,
    resetToken,
    note,
    source,
    token,
    refresh: login.refreshToken,
    access: payload,
    stepUp: stepUp.split('.')[1],
    totpSecret: offer.secret,
    recoveryCode,
    unusedCode,
    challengeToken,
    secondRefresh: verified.body.refreshToken,
    apiKey: madeKey.secret.slice(madeKey.prefix.length + 1),
    nextApiKey: nextKey.secret.slice(nextKey.prefix.length + 1),
  }
  for (const [sink, text] of Object.entries(sinks)) {
    for (const [what, secret] of Object.entries(canaries)) {
      expect(text.includes(secret), `${what} in ${sink}`).toBe(false)
    }
    // The PIN as a separate word: its digits may occur by chance within ids, hashes and numbers.
    for (const digits of [pin, wrongPin, newPin, otp, code]) {
      expect(
        new RegExp(`(?<![0-9A-Za-z])${digits}(?![0-9A-Za-z])`).test(text),
        `PIN or code in ${sink}`,
      ).toBe(false)
    }
  }
})
