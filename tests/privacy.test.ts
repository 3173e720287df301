// A person is erased: nothing about them can be read anywhere, and everything else is as right as before.
import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { expectBooksToBeRight } from './books.ts'
import {
  ask,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  PIN,
  type Staff,
  send,
  signIn,
  type Wallet,
} from './client.ts'
import { findMarkers, readSinks } from './find-markers.ts'
import { startReceiver } from './webhook-receiver.ts'

const { databaseUrls, env } = inject('system')

type Run = { exitCode: number; out: string; err: string }
const run = (script: string, args: string[], runEnv: Record<string, string>) =>
  new Promise<Run>(resolve =>
    execFile(
      process.execPath,
      [join(import.meta.dirname, '..', 'services', script), ...args],
      { env: runEnv },
      (error, out, err) => resolve({ exitCode: Number(error?.code ?? 0), out, err }),
    ),
  )
const eraseByCommand = (...args: string[]) => run('gateway/src/privacy/erase-command.ts', args, env.gateway)

const LONG = { timeout: 20_000, interval: 100 }
/** A text that occurs nowhere else, of letters alone: names have to be of letters. */
const drawMarker = (what: string) =>
  `${what}${[...randomBytes(12)].map(byte => 'bcdfghjklmnpqrstvwxz'[byte % 20]).join('')}`

let sql: Database
let root: Staff
beforeAll(async () => {
  sql = openDatabase(databaseUrls.superuser, { applicationName: 'test' })
  root = await makeStaff('super_admin', 'Rita Root')
}, 60_000)
afterAll(() => sql.end())

const erase = (userId: string, reason = 'Asked for in writing, case 4711') =>
  root.ask('POST', `/v1/admin/users/${userId}/erasure`, { reason })

/** The person's money goes out, so that nothing stands in the way. */
const emptyWallet = async (person: Person, wallet: Wallet, destination: string) => {
  const { balance } = (await person.ask('GET', `/v1/wallets/${wallet.id}/balance`)).body
  const body = { walletId: wallet.id, amount: balance, currency: wallet.currency, destination, pin: PIN }
  const sent = await person.ask('POST', '/v1/withdrawals', body, { 'idempotency-key': randomUUID() })
  expect([200, 201, 202]).toContain(sent.status)
  await vi.waitFor(async () => {
    const { body: deletion } = await person.ask('GET', '/v1/users/me/deletion')
    expect(deletion.blockers).toEqual([])
  }, LONG)
}

const exportOf = async (person: Person) => {
  expect((await person.ask('POST', '/v1/users/me/export', { password: person.password })).status).toBe(202)
  return vi.waitFor(async () => {
    const { status, body } = await person.ask('GET', '/v1/users/me/export')
    expect(status).toBe(200)
    return body
  }, LONG)
}

/** The subjects of the mails to a person. */
const subjectsOf = async ({ email }: Person): Promise<string[]> => {
  const response = await fetch(`${inject('stack').mail.httpUrl}/messages`)
  const messages = (await response.json()) as Array<{ to: unknown; subject: string }>
  return messages.filter(({ to }) => JSON.stringify(to).includes(email)).map(({ subject }) => subject)
}

/** Until the notifier has cleared its rows, and the audit trail has the end. */
const waitUntilTold = (userId: string) =>
  vi.waitFor(async () => {
    expect(await sql`select from notifier.erasures where user_id = ${userId}`).toHaveLength(1)
    expect(await sql`select from gateway.outbox`).toHaveLength(0)
    const [{ behind } = { behind: 1 }] = await sql<[{ behind: number }?]>`
      select count(*)::int as behind from (values (${userId})) as q (id)
      where not exists (
        select from audit.records where topic = 'identity.events' and key = convert_to(q.id, 'UTF8')
          and position(convert_to('UserErased', 'UTF8') in headers::text::bytea) > 0)`
    expect(behind).toBe(0)
  }, LONG)

test('nothing about an erased person can be read anywhere; chain, books and the others’ statements are right', {
  timeout: 240_000,
}, async () => {
  const markers = {
    firstName: drawMarker('F'),
    lastName: drawMarker('L'),
    email: drawMarker('e').toLowerCase(),
    note: drawMarker('note'),
    metadata: drawMarker('meta'),
    holdNote: drawMarker('hold'),
    label: drawMarker('label'),
    device: drawMarker('agent'),
    source: drawMarker('src'),
    destination: drawMarker('dst'),
    webhookHost: drawMarker('host').toLowerCase(),
    webhookPath: drawMarker('path'),
    webhookQuery: drawMarker('query'),
    webhookText: drawMarker('hook'),
    apiKeyName: drawMarker('key'),
    freezeReason: drawMarker('freeze'),
    staffReason: drawMarker('staff'),
    subject: drawMarker('subject'),
  }
  const receiver = await startReceiver()
  const email = `${markers.email}@example.com`
  const person = await makePerson(`${markers.firstName} ${markers.lastName}`, email)
  const other = await makePerson('Otto Other')
  const othersWallet = await openWallet(other, 'USD', '10')

  // Something in every field and channel.
  const withDevice = await ask('POST', '/v1/auth/login', {
    body: { email, password: person.password },
    headers: { 'user-agent': `Mozilla/5.0 ${markers.device}` },
  })
  expect(withDevice.status).toBe(200)
  await ask('POST', '/v1/auth/login', {
    body: { email, password: 'wrong' },
    headers: { 'user-agent': `Mozilla/5.0 ${markers.device}` },
  })
  const wallet = await openWallet(person, 'USD')
  const named = await person.ask('PATCH', `/v1/wallets/${wallet.id}`, { label: markers.label })
  expect(named.status).toBe(200)
  const deposit = { walletId: wallet.id, amount: '20', currency: 'USD', source: markers.source }
  expect(
    (await person.ask('POST', '/v1/deposits', deposit, { 'idempotency-key': randomUUID() })).status,
  ).toBe(201)
  const hook = await person.ask('POST', '/v1/webhooks', {
    url: `${receiver.url}/${markers.webhookPath}?secret=${markers.webhookQuery}`,
    description: markers.webhookText,
    password: person.password,
  })
  expect(hook.status).toBe(201)
  const hookElsewhere = { url: `https://${markers.webhookHost}.example/hook`, password: person.password }
  const removed = await person.ask('POST', '/v1/webhooks', hookElsewhere)
  expect((await person.ask('POST', '/v1/webhooks', hookElsewhere)).status).toBe(201)
  expect((await person.ask('DELETE', `/v1/webhooks/${removed.body.id}`)).status).toBe(204)
  await person.ask('PATCH', '/v1/notifications/preferences', { language: 'de', attachReceipts: true })
  const texts = { note: markers.note, metadata: { invoice: markers.metadata } }
  const sent = await send(person, othersWallet, '5', randomUUID(), { body: texts })
  expect(sent.status).toBe(201)
  expect((await send(other, { ...wallet }, '1')).status).toBe(201)
  // Answered before it is decided: the request waits in the gateway's table.
  const pending = await send(person, othersWallet, '0.50', randomUUID(), {
    body: texts,
    headers: { prefer: 'respond-async' },
  })
  expect(pending.status).toBe(202)
  const held = await person.ask(
    'POST',
    '/v1/holds',
    { toWalletId: othersWallet.id, amount: '2', currency: 'USD', note: markers.holdNote },
    { 'idempotency-key': randomUUID(), 'step-up-token': person.stepUp },
  )
  expect(held.status).toBe(201)
  const freeze = { reason: markers.freezeReason }
  expect((await person.ask('POST', `/v1/wallets/${wallet.id}/freeze`, freeze)).status).toBe(200)
  expect((await person.ask('POST', `/v1/transfers/${sent.body.id}/receipt`)).status).toBe(202)
  await vi.waitFor(async () => {
    expect((await person.ask('GET', `/v1/transfers/${sent.body.id}/receipt`)).status).toBe(200)
  }, LONG)
  const key = await person.ask('POST', '/v1/api-keys', {
    ...{ name: markers.apiKeyName, scopes: ['wallets:read'], password: person.password },
  })
  expect(key.status).toBe(201)
  await sql`
    insert into gateway.external_identities (id, user_id, issuer, subject)
    values (${randomUUID()}, ${person.id}, 'https://sso.example', ${markers.subject})`
  expect((await person.ask('POST', '/v1/auth/2fa/enable', { password: person.password })).status).toBe(200)
  expect((await person.ask('POST', '/v1/pin/reset-request')).status).toBe(202)
  await ask('POST', '/v1/auth/forgot-password', { body: { email } })
  // Staff write about them, too.
  const reason = { reason: `about ${markers.staffReason}` }
  expect((await root.ask('POST', `/v1/admin/users/${person.id}/deactivate`, reason)).status).toBe(200)
  expect((await root.ask('POST', `/v1/admin/users/${person.id}/reactivate`, reason)).status).toBe(200)
  const back = await signIn(email)

  // What stands in the way is named, and nothing happens.
  const blocked = await erase(person.id)
  expect([blocked.status, blocked.body.code]).toEqual([409, 'ERASURE_BLOCKED'])
  expect(blocked.body.blockers.map(({ code }: { code: string }) => code).sort()).toEqual([
    'WALLET_FROZEN',
    'WALLET_HAS_BALANCE',
    'WALLET_HAS_HOLDS',
  ])
  expect((await back.ask('POST', `/v1/wallets/${wallet.id}/unfreeze`, {})).status).toBe(200)
  expect((await other.ask('POST', `/v1/holds/${held.body.id}/void`)).status).toBe(200)
  await emptyWallet(back, wallet, markers.destination)

  // The copy of their data holds what they wrote, and of others only what they see.
  const copy = JSON.stringify(await exportOf(back))
  const { staffReason: _staff, freezeReason: _freeze, ...written } = markers
  expect(Object.entries(written).filter(([, marker]) => !copy.includes(marker))).toEqual([])
  expect(copy).toContain('Otto O.')
  expect(copy).not.toContain('Otto Other')
  // The search finds what is stored readably: the name, the address, the webhook.
  const before = findMarkers(await readSinks(), markers)
  expect(before).toContain('firstName: pennywire: gateway.users')
  expect(before).toContain('email: pennywire: gateway.users')
  expect(before).toContain('subject: pennywire: gateway.external_identities')
  expect(before).toContain('webhookPath: pennywire: notifier.webhook_endpoints')
  expect([...new Set(before.map(found => found.split(': ')[0]))].sort()).toEqual([
    ...['email', 'firstName', 'lastName', 'subject'],
    ...['webhookHost', 'webhookPath', 'webhookQuery', 'webhookText'],
  ])
  // Nothing readable is where nothing can be deleted.
  expect(before.filter(found => /topic|audit|ledger|Redis|file/.test(found))).toEqual([])

  const erased = await erase(person.id)
  expect([erased.status, erased.body.state]).toEqual([200, 'erased'])
  // A repeat says so, and so do other acts of staff on them.
  expect((await erase(person.id)).body.code).toBe('PERSON_ERASED')
  expect((await root.ask('POST', `/v1/admin/users/${person.id}/reactivate`, {})).body.code).toBe(
    'PERSON_ERASED',
  )
  expect((await root.ask('GET', `/v1/admin/users/${person.id}`)).body).toMatchObject({
    fullName: 'Erased user',
    email: `${person.id}@erased.invalid`,
    erased: true,
  })
  for (const token of [back.token, key.body.secret]) {
    expect([401, 403]).toContain((await ask('GET', '/v1/wallets', { token })).status)
  }
  const login = { body: { email, password: person.password } }
  expect((await ask('POST', '/v1/auth/login', login)).body.code).toBe('INVALID_CREDENTIALS')
  await waitUntilTold(person.id)

  expect(findMarkers(await readSinks(), markers)).toEqual([])
  for (const [table, column] of [
    ...[
      ['notices', 'user_id'],
      ['inboxes', 'user_id'],
      ['preferences', 'user_id'],
      ['deliveries', 'user_id'],
    ],
    ...[
      ['webhook_endpoints', 'owner_id'],
      ['webhook_changes', 'owner_id'],
      ['changed_urls', 'owner_id'],
    ],
  ] as const) {
    const left = await sql`select from ${sql(`notifier.${table}`)} where ${sql(column)} = ${person.id}`
    expect([table, left.length]).toEqual([table, 0])
  }

  // Others' money and statements are as right as before, with a name that says what became of the person.
  const seen = (await other.ask('GET', `/v1/transfers/${sent.body.id}`)).body
  expect(seen).toMatchObject({ amount: '5.00', note: null, metadata: null, from: { name: 'Erased user' } })
  const { items } = (await other.ask('GET', `/v1/wallets/${othersWallet.id}/entries`)).body
  expect(items.map(({ amount }: { amount: string }) => amount)).toEqual(['0.50', '-1.00', '5.00', '10.00'])
  const day = new Date().toISOString().slice(0, 10)
  const statement = await fetch(
    `${inject('system').gatewayUrl}/v1/wallets/${othersWallet.id}/statement?from=${day}&to=${day}&format=csv`,
    { headers: { authorization: `Bearer ${other.token}` } },
  )
  const csv = await statement.text()
  expect(csv).toContain('Erased user')
  expect(csv).toContain('14.50')
  const again = await send(other, wallet, '1')
  expect([again.status, again.body.code]).toEqual([409, 'RECIPIENT_UNAVAILABLE'])

  expectBooksToBeRight()
  const verified = await run('audit/src/verify.ts', [], {
    ...env.audit,
    AUDIT_DATABASE_URL: databaseUrls.audit,
  })
  expect([verified.exitCode, verified.err]).toEqual([0, expect.any(String)])
  const rebuildTrail = (...args: string[]) =>
    run('audit/src/rebuild.ts', args, {
      ...env.audit,
      AUDIT_DATABASE_URL: databaseUrls.audit,
      OWNER_DATABASE_URL: databaseUrls.owner,
    })
  const rebuilt = await rebuildTrail()
  expect(rebuilt.out + rebuilt.err).toContain(' rows are equal to the live trail, 0 are not\n')
  expect(rebuilt.exitCode).toBe(0)
  expect((await rebuildTrail('--drop')).exitCode).toBe(0)
  const notices = await run('notifier/src/rebuild.ts', [], {
    ...env.notifier,
    OWNER_DATABASE_URL: databaseUrls.owner,
  })
  expect(notices.out + notices.err).toMatch(/^\d+ notices are equal to the live ones, 0 are not$/m)
  expect(notices.exitCode).toBe(0)

  // The address is free: who signs up with it is somebody new.
  const signedUp = await ask('POST', '/v1/auth/signup', {
    body: { email, password: person.password, fullName: 'New Comer' },
  })
  expect(signedUp.status).toBe(201)
  expect(signedUp.body.id).not.toBe(person.id)
  await receiver.close()
})

test('a user asks for deletion, cancels it, asks again, and is erased when it is due; told by mail', {
  timeout: 60_000,
}, async () => {
  const person = await makePerson('Dora Done')
  const wallet = await openWallet(person, 'USD', '3')
  const askFor = () => person.ask('POST', '/v1/users/me/deletion', { password: person.password })
  const wrong = await person.ask('POST', '/v1/users/me/deletion', { password: 'not it' })
  expect(wrong.body.code).toBe('PASSWORD_MISMATCH')
  const refused = await askFor()
  expect([refused.status, refused.body.code]).toEqual([409, 'ERASURE_BLOCKED'])
  // Beside a payment that is not finished in this moment.
  expect(refused.body.blockers).toContainEqual({
    code: 'WALLET_HAS_BALANCE',
    walletId: wallet.id,
    amount: '3.00',
    currency: 'USD',
  })
  await emptyWallet(person, wallet, 'DE02 1203')

  const asked = await askFor()
  expect([asked.status, asked.body.state]).toEqual([202, 'waiting'])
  expect(new Date(asked.body.dueAt).getTime() - Date.now()).toBeGreaterThan(6.9 * 24 * 60 * 60 * 1_000)
  // A repeat changes nothing.
  expect((await askFor()).body.dueAt).toBe(asked.body.dueAt)
  for (let repeats = 0; repeats < 2; repeats++) {
    const cancelled = await person.ask('DELETE', '/v1/users/me/deletion')
    expect([cancelled.status, cancelled.body.state]).toEqual([200, 'none'])
  }
  expect((await askFor()).status).toBe(202)
  await vi.waitFor(async () => {
    const subjects = await subjectsOf(person)
    expect(subjects.filter(subject => subject === 'Your account will be deleted')).toHaveLength(2)
    expect(subjects).toContain('Your account stays')
  }, LONG)

  // Money that comes in meanwhile stands in the way when it is due; once it is gone, it is tried again.
  const payer = await makePerson()
  await openWallet(payer, 'USD', '5')
  expect((await send(payer, wallet, '1')).status).toBe(201)
  const makeDue = () =>
    sql`update gateway.erasures set due_at = now(), look_at = now() where user_id = ${person.id}`
  await makeDue()
  await vi.waitFor(async () => {
    expect((await person.ask('GET', '/v1/users/me/deletion')).body.state).toBe('blocked')
    expect(await subjectsOf(person)).toContain('Your account could not be deleted yet')
  }, LONG)
  await emptyWallet(person, wallet, 'DE02 1203')
  await makeDue()
  await vi.waitFor(async () => {
    const [row] = await sql`select erased_at from gateway.erasures where user_id = ${person.id}`
    expect(row!.erased_at).not.toBeNull()
  }, LONG)
  const seen = (await root.ask('GET', `/v1/admin/users/${person.id}/erasure`)).body
  expect(seen).toMatchObject({ state: 'erased', source: 'self', blockers: [] })
  expect([401, 403]).toContain((await person.ask('GET', '/v1/users/me')).status)
  await waitUntilTold(person.id)
})

test('staff: nobody erases themselves, no lower role does, and the reason does not name the person', async () => {
  const person = await makePerson('Nina Named')
  const admin = await makeStaff('admin')
  const path = `/v1/admin/users/${person.id}/erasure`
  expect((await admin.ask('POST', path, { reason: 'x' })).body.code).toBe('INSUFFICIENT_PERMISSIONS')
  expect((await erase(root.id)).body.code).toBe('INSUFFICIENT_PERMISSIONS')
  for (const reason of ['nina named has written', `mail of ${person.email.toUpperCase()}`]) {
    const refused = await erase(person.id, reason)
    expect([refused.status, refused.body.detail]).toEqual([422, expect.stringContaining('name the person')])
  }
  const noStepUp = await ask('POST', path, { token: root.token, body: { reason: 'x' } })
  expect(noStepUp.body.code).toBe('STEP_UP_REQUIRED')
  const staff = await erase(admin.id)
  expect(staff.body.blockers).toEqual([{ code: 'HAS_STAFF_ROLE', role: 'admin' }])
  // Two at once: both find the person erased.
  const both = await Promise.all([erase(person.id), erase(person.id)])
  expect(both.map(({ status, body }) => body.state ?? `${status} ${body.code}`).sort()).toSatisfy(
    (outcomes: string[]) =>
      outcomes.includes('erased') &&
      outcomes.every(outcome => ['erased', '409 PERSON_ERASED'].includes(outcome)),
  )
})

test('the command: tells how it is used without effect, refuses what it does not know, and erases', {
  timeout: 60_000,
}, async () => {
  const person = await makePerson('Carl Command')
  const wallet = await openWallet(person, 'USD', '2')
  const help = await eraseByCommand('--help')
  expect([help.exitCode, help.out]).toEqual([0, expect.stringContaining('usage: npm run persons:erase')])
  const wrong = [['--user', 'x'], [], ['--user', person.id, '--all'], ['--user', person.id, '--json']]
  const refused = await Promise.all(wrong.map(args => eraseByCommand(...args)))
  expect(refused.map(({ exitCode }) => exitCode)).toEqual([2, 2, 2, 2])
  // Nobody can be asked where there is no terminal.
  expect((await eraseByCommand('--user', person.id)).exitCode).toBe(2)
  const unknown = await eraseByCommand('--user', randomUUID(), '--yes', '--json')
  expect([unknown.exitCode, JSON.parse(unknown.out).state]).toEqual([1, 'unknown'])
  const blocked = await eraseByCommand('--user', person.id, '--yes')
  expect(blocked.exitCode).toBe(1)
  expect(blocked.out).toContain(`Not erased:\n  wallet ${wallet.id} holds 2.00 USD\n`)
  await emptyWallet(person, wallet, 'DE02 1203')
  const checked = await eraseByCommand('--user', person.id, '--check', '--json')
  expect([checked.exitCode, JSON.parse(checked.out)]).toEqual([0, { userId: person.id, state: 'ready' }])
  const erased = await eraseByCommand('--user', person.id, '--yes', '--json')
  expect([erased.exitCode, JSON.parse(erased.out).state]).toEqual([0, 'erased'])
  const again = await eraseByCommand('--user', person.id, '--yes', '--json')
  expect(JSON.parse(again.out)).toEqual(JSON.parse(erased.out))
  await vi.waitFor(async () => {
    expect((await person.ask('GET', '/v1/users/me')).body.code).toBe('ACCOUNT_DISABLED')
  }, LONG)
  await waitUntilTold(person.id)
})

test('an export is for the session that asked for it, and a repeat asks for the same', async () => {
  const person = await makePerson('Ella Export')
  const elsewhere = await signIn(person.email)
  const wrong = await person.ask('POST', '/v1/users/me/export', { password: 'not it' })
  expect(wrong.body.code).toBe('PASSWORD_MISMATCH')
  expect((await person.ask('GET', '/v1/users/me/export')).body.code).toBe('EXPORT_NOT_FOUND')
  const document = await exportOf(person)
  expect(Object.keys(document)).toEqual([
    ...['format', 'profile', 'deletion', 'preferences', 'familiar', 'sessions', 'logins', 'identities'],
    ...['apiKeys', 'webhooks', 'wallets', 'payments', 'limits', 'transfers', 'holds', 'notifications'],
  ])
  expect(document.profile).toMatchObject({ email: person.email, fullName: 'Ella Export' })
  expect((await elsewhere.ask('GET', '/v1/users/me/export')).body.code).toBe('EXPORT_NOT_FOUND')
  const repeated = await person.ask('POST', '/v1/users/me/export', { password: person.password })
  expect([repeated.status, repeated.body.status]).toEqual([200, 'made'])
})
