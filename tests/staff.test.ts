// The preconditions for staff routes, and the audit records of the data that staff view, over HTTP.
import { randomUUID } from 'node:crypto'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import {
  ask,
  control,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  send,
  signIn,
  totpCode,
  turnOnSecondFactor,
} from './client.ts'

const outcomeOf = ({ status, body }: { status: number; body: { code?: string } | null }) =>
  body?.code === undefined ? String(status) : `${status} ${body.code}`

let sql: Database
let codec: Codec
let victim: Person

beforeAll(async () => {
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test' })
  codec = await createCodec(connectRegistry(inject('stack').registryUrl))
  victim = await makePerson('Vic Tim')
})
afterAll(() => sql.end())

/** The StaffViewed events of a member of staff in the audit trail, oldest first. */
const viewsOf = async (userId: string) => {
  const rows = await sql<Array<{ value: Buffer }>>`
    select value from audit.records
    where topic = 'identity.events' and key = ${Buffer.from(userId)} order by record_offset`
  const records = await Promise.all(rows.map(({ value }) => codec.decode(value)))
  return records.flatMap(({ type, value }) => (type === 'pennywire.identity.StaffViewed' ? [value] : []))
}

const rolesOf = (token: string): string[] =>
  JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()).roles

test('a token carries the roles of staff only in a session with the second factor', async () => {
  const person = await makePerson('Bo Otstrap')
  await sql`update gateway.users set roles = array['user', 'super_admin'] where id = ${person.id}`
  const byPassword = await signIn(person.email)
  expect(rolesOf(byPassword.token)).toEqual(['user'])
  const path = `/v1/admin/users/${victim.id}`
  expect(outcomeOf(await byPassword.ask('GET', path))).toBe('403 INSUFFICIENT_PERMISSIONS')
  expect((await byPassword.ask('GET', path)).body.detail).toContain('second factor')

  const staff = await turnOnSecondFactor(byPassword)
  expect(rolesOf(staff.token)).toEqual(['user', 'super_admin'])
  expect(outcomeOf(await staff.ask('GET', path))).toBe('200')
  // Turning it off signs a member of staff out: otherwise the token would contain the role for minutes.
  await sql`update gateway.second_factors set last_step = 0 where user_id = ${person.id}`
  const off = { password: person.password, code: totpCode(staff.secret) }
  expect(outcomeOf(await staff.ask('POST', '/v1/auth/2fa/disable', off))).toBe('200')
  await vi.waitFor(async () => expect(outcomeOf(await staff.ask('GET', path))).toBe('401 TOKEN_REVOKED'))
  expect(rolesOf((await signIn(person.email)).token)).toEqual(['user'])
})

test('the first super_admin: the verified address of the setting, and nothing without a second factor', async () => {
  const person = await makePerson('Ruth Root')
  const started = await fetch(`${inject('system').controlUrl}/gateway/start`, {
    method: 'POST',
    body: JSON.stringify({ BOOTSTRAP_ADMIN_EMAIL: person.email }),
  })
  const { name } = (await started.json()) as { name: string }
  await control(name, 'stop')
  const byPassword = await signIn(person.email)
  expect((await byPassword.ask('GET', '/v1/users/me')).body.roles).toEqual(['user', 'super_admin'])
  expect(rolesOf(byPassword.token)).toEqual(['user'])
  const root = await turnOnSecondFactor(byPassword)
  const role = { role: 'moderator' }
  const given = await root.ask('PATCH', `/v1/admin/users/${(await makePerson()).id}/role`, role)
  expect([given.status, given.body.role]).toEqual([200, 'moderator'])
})

test('all super_admins hear of a new one, by mail', async () => {
  const [chief, other, next] = [
    await makeStaff('super_admin'),
    await makeStaff('super_admin'),
    await makePerson(),
  ]
  const role = { role: 'super_admin' }
  expect((await chief.ask('PATCH', `/v1/admin/users/${next.id}/role`, role)).status).toBe(200)
  for (const { email } of [chief, other]) {
    await vi.waitFor(
      async () => {
        const sent = await (await fetch(`${inject('stack').mail.httpUrl}/messages`)).json()
        const subjects = (sent as Array<{ to: unknown; subject: string }>)
          .filter(({ to }) => JSON.stringify(to).includes(email))
          .map(({ subject }) => subject)
        expect(subjects).toContain('There is a new super_admin')
      },
      { timeout: 15_000, interval: 100 },
    )
  }
})

test.each<[string, string, string, object]>([
  ['a role', 'PATCH', `/v1/admin/users/:user/role`, { role: 'moderator' }],
  ['a reversal', 'POST', '/v1/admin/transfers/:transfer/reversals', { reason: 'x' }],
  ['limits', 'PUT', '/v1/admin/wallets/:wallet/limits/send', { daily: '1' }],
  ['the end of a second factor', 'DELETE', '/v1/admin/users/:user/second-factor', { reason: 'x' }],
  ['an unfreeze', 'POST', '/v1/admin/wallets/:wallet/unfreeze', {}],
  ['a reactivation', 'POST', '/v1/admin/users/:user/reactivate', {}],
])(
  '%s needs a fresh code of the second factor: no session alone, no PIN, no other session',
  async (_what, method, path, body) => {
    const [staff, other] = [await makeStaff('super_admin'), await makeStaff('super_admin')]
    const wallet = await openWallet(await makePerson(), 'USD')
    const full = path
      .replace(':user', victim.id)
      .replace(':transfer', randomUUID())
      .replace(':wallet', wallet.id)
    const request = (stepUp?: string) =>
      ask(method, full, {
        token: staff.token,
        body,
        headers: {
          'idempotency-key': randomUUID(),
          ...(stepUp === undefined ? {} : { 'step-up-token': stepUp }),
        },
      })
    expect(outcomeOf(await request())).toBe('403 STEP_UP_REQUIRED')
    expect(outcomeOf(await request(staff.stepUp))).toBe('403 STEP_UP_INVALID')
    expect(outcomeOf(await request(other.staffStepUp))).toBe('403 STEP_UP_INVALID')
    expect(outcomeOf(await request(staff.token))).toBe('403 STEP_UP_INVALID')
    // With the right step-up token the request reaches its actual handling.
    expect(outcomeOf(await request(staff.staffStepUp))).not.toMatch(/STEP_UP/)
  },
)

test('what staff are shown stands in identity.events: each route that reads, with whose it was', async () => {
  const staff = await makeStaff('super_admin')
  const owner = await makePerson('Olga Owner')
  const wallet = await openWallet(owner, 'USD', '5')
  const { id: transfer, reference } = (await send(owner, await openWallet(await makePerson(), 'USD'), '1'))
    .body
  const { paths } = (await ask('GET', '/openapi.json')).body
  const reads = Object.entries(paths as Record<string, { get?: object }>)
    .filter(([path, { get }]) => path.startsWith('/v1/admin/') && get)
    .map(([path]) => path)
  expect(reads.length).toBeGreaterThan(6)
  const hook = (await staff.ask('POST', '/v1/admin/webhooks', { url: 'http://127.0.0.1:9/hook' })).body.id
  const delivery = (await staff.ask('POST', `/v1/admin/webhooks/${hook}/test`)).body.id
  await owner.ask('PUT', '/v1/limits/send', { walletId: wallet.id, daily: '1000' })
  const nobody = randomUUID()
  const OBJECTS: Array<[beginning: string, id: string]> = [
    ['/v1/admin/users', owner.id],
    ['/v1/admin/wallets', wallet.id],
    ['/v1/admin/webhooks', hook],
    ['/v1/admin/transfers', transfer],
    ['/v1/admin/limits', wallet.id],
    // No record names them: the search shows none.
    ['/v1/admin/audit-logs', `user:${nobody}`],
  ]
  const idOf = (path: string) => OBJECTS.find(([beginning]) => path.startsWith(beginning))![1]
  const expected: object[] = []
  for (const path of reads) {
    const list = path.endsWith('/users')
      ? `?email=${owner.email}`
      : path.endsWith('/wallets')
        ? `?userId=${owner.id}`
        : path.endsWith('/transfers')
          ? `?reference=${reference}`
          : path.endsWith('/admin/limits')
            ? `?walletId=${wallet.id}`
            : path.endsWith('/audit-logs')
              ? `?userId=${nobody}`
              : ''
    const requestId = randomUUID()
    const asked = path.replace('{deliveryId}', delivery).replace(/\{[^}]+\}/, idOf(path)) + list
    const shown = await staff.ask('GET', asked, undefined, { 'x-request-id': requestId })
    expect([path, shown.status]).toEqual([path, 200])
    const seen = path.includes('/deliveries') ? [hook, delivery] : [idOf(path)]
    // The operator's webhooks, and what goes to them, are all tests'.
    const objectIds = /\/(webhooks|deliveries)$/.test(path) ? expect.arrayContaining(seen) : seen
    expected.push({ route: path.replace(/\{([^}]+)\}/g, ':$1'), requestId, objectIds })
  }
  await staff.ask('DELETE', `/v1/admin/webhooks/${hook}`)
  // A refused view is not recorded; the next view is recorded directly after the earlier ones.
  expect((await staff.ask('GET', `/v1/admin/users/${randomUUID()}`)).status).toBe(404)
  await staff.ask('GET', `/v1/admin/users/${owner.id}`, undefined, { 'x-request-id': 'the-last' })
  await vi.waitFor(async () => expect((await viewsOf(staff.id)).at(-1)?.requestId).toBe('the-last'), {
    timeout: 15_000,
    interval: 100,
  })
  expect((await viewsOf(staff.id)).slice(0, -1)).toMatchObject(expected)
})
