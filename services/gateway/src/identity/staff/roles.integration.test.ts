import type { Database } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { createGatewayDatabase, setClocks } from '../../sql/test-database.ts'
import { createTestGateway, createTestKeys, type TestGateway, type TestKeys } from '../../test-gateway.ts'

const { superuserUrl, redisUrl } = inject('stack')

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
const gateways: TestGateway[] = []

beforeAll(async () => {
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  keys = await createTestKeys()
})

afterAll(async () => {
  for (const gateway of gateways) gateway.stop()
  keys.remove()
  await sql.end()
  await database.drop()
})

const start = async (bootstrapAdminEmail?: string): Promise<TestGateway> => {
  const env: Record<string, string> =
    bootstrapAdminEmail === undefined ? {} : { BOOTSTRAP_ADMIN_EMAIL: bootstrapAdminEmail }
  const gateway = await createTestGateway({ sql, databaseUrl: database.url, redisUrl, keys, env })
  gateways.push(gateway)
  await vi.waitFor(() => gateway.identity.check())
  return gateway
}
const setRole = (gateway: TestGateway, token: string, id: string, role: string) =>
  gateway.ask('PATCH', `/v1/admin/users/${id}/role`, { token, body: { role } })
const rolesOf = async (gateway: TestGateway, token: string) =>
  (await gateway.identity.tokens.verifyAccess(token)).roles

test('the first super_admin is who verifies the address of the setting, and nobody else', async () => {
  const gateway = await start('Root@Example.com')
  const other = await gateway.signedInUser()
  expect(await rolesOf(gateway, other.accessToken)).toEqual(['user'])
  const signedUp = await gateway.signedInUser({ email: 'root@example.com' })
  // Without the second factor the role is unusable.
  expect(await rolesOf(gateway, signedUp.accessToken)).toEqual(['user'])
  expect((await setRole(gateway, signedUp.accessToken, other.id, 'moderator')).body).toMatchObject({
    code: 'INSUFFICIENT_PERMISSIONS',
    detail: expect.stringContaining('second factor'),
  })
  const root = await gateway.withSecondFactor(signedUp)
  expect(await rolesOf(gateway, root.accessToken)).toEqual(['user', 'super_admin'])
  // Neither a later verification nor the next start grants the role again.
  await gateway.signedInUser()
  await start('root@example.com')
  expect((await gateway.ask('GET', '/v1/users/me', { token: root.accessToken })).body.roles).toEqual([
    'user',
    'super_admin',
  ])
})

test('a setting that comes later makes them super_admin at the start, and ends their sessions', async () => {
  const before = await start()
  const late = await before.signedInUser({ email: 'late@example.com' })
  const unverified = await before.signUp({ email: 'unverified@example.com' })
  expect(await rolesOf(before, late.accessToken)).toEqual(['user'])
  const gateway = await start('late@example.com')
  const old = await gateway.ask('GET', '/v1/users/me', { token: late.accessToken })
  expect([old.status, old.body.code]).toEqual([401, 'TOKEN_REVOKED'])
  const refreshed = await gateway.ask('POST', '/v1/auth/refresh', {
    body: { refreshToken: late.refreshToken },
  })
  expect([refreshed.status, refreshed.body.code]).toEqual([401, 'REFRESH_TOKEN_INVALID'])
  const again = await gateway.withSecondFactor({ ...late, ...(await gateway.logIn(late)) })
  expect(await rolesOf(gateway, again.accessToken)).toEqual(['user', 'super_admin'])

  // An unverified address may belong to anyone.
  const early = await start('unverified@example.com')
  const token = await early.mailedToken(unverified.id)
  await early.ask('POST', '/v1/auth/verify-email', { body: { token } })
  const verified = await early.withSecondFactor({ ...unverified, ...(await early.logIn(unverified)) })
  expect(await rolesOf(early, verified.accessToken)).toEqual(['user', 'super_admin'])
})

test('who verified before a proof was asked for becomes super_admin with a new password by mail', async () => {
  const before = await start()
  const { id, email, accessToken } = await before.signedInUser({ email: 'owner@example.com' })
  await setClocks.forgetOwnerProof(sql, id)
  const gateway = await start(email)
  expect(await rolesOf(gateway, accessToken)).toEqual(['user'])
  expect(JSON.stringify(gateway.logLines)).toContain('forgot-password')
  await gateway.ask('POST', '/v1/auth/forgot-password', { body: { email } })
  const token = await vi.waitFor(async () => {
    const secret = await gateway.mailedSecret(id)
    expect(secret.url).toContain('reset-password')
    return secret.token
  })
  const body = { token, password: 'Quiet-lantern-83-oats' }
  expect((await gateway.ask('POST', '/v1/auth/reset-password', { body })).status).toBe(200)
  const [stored] = await sql`select roles from gateway.users where id = ${id}`
  expect(stored!.roles).toEqual(['user', 'super_admin'])
})

test('whom another super_admin made less is not made more again by the setting', async () => {
  const gateway = await start('chief@example.com')
  const chief = await gateway.signedInStaff({ email: 'chief@example.com' })
  const next = await gateway.signedInUser()
  expect((await setRole(gateway, chief.accessToken, next.id, 'super_admin')).status).toBe(200)
  const successor = await gateway.withSecondFactor({ ...next, ...(await gateway.logIn(next)) })
  expect((await setRole(gateway, successor.accessToken, chief.id, 'user')).status).toBe(200)
  // Neither by the next who verifies, nor by the next start; nor the successor, whom no setting named.
  await gateway.signedInUser()
  await start('chief@example.com')
  const [stored] = await sql`select roles from gateway.users where id = ${chief.id}`
  expect(stored!.roles).toEqual(['user'])
})
