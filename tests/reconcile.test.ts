// `npm run reconcile` reports every difference between payments, ledger and provider, and nothing else. Each test looks
// up only its own ids, because other tests send forged provider callbacks to the shared system.
import { execFile } from 'node:child_process'
import { createHmac, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { type Answer, ask, makePerson, openWallet, type Person, type Wallet } from './client.ts'

let sql: Database
let alice: Person
let wallet: Wallet

beforeAll(async () => {
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test', maxConnections: 2 })
  alice = await makePerson('Alice Smith')
  wallet = await openWallet(alice, 'USD', '100.00')
})
afterAll(() => sql.end())

const pay = (kind: 'deposits' | 'withdrawals', method: string, prefer = 'wait=10'): Promise<Answer> =>
  alice.ask(
    'POST',
    `/v1/${kind}`,
    {
      walletId: wallet.id,
      amount: '1.00',
      currency: 'USD',
      ...(kind === 'deposits' ? { source: method } : { destination: method }),
    },
    { 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp, prefer },
  )

const untilStatus = (id: string, status: string) =>
  vi.waitFor(
    async () => {
      const rows =
        await sql`select 1 from gateway.payments where id = ${id} and status = ${status} and done_at is not null`
      expect(rows.length).toBe(1)
    },
    { timeout: 20_000, interval: 100 },
  )

const reconcile = async () => {
  const { env } = inject('system')
  const script = join(import.meta.dirname, '..', 'packages', 'stack', 'src', 'reconcile.ts')
  const own = {
    PENNYWIRE_DATA: inject('system').dataDir,
    ...inject('stack').kafkaEnv.ledger,
    LEDGER_DATABASE_URL: env.ledger.DATABASE_URL,
    GATEWAY_DATABASE_URL: env.gateway.DATABASE_URL,
    LEDGER_READ_URL: env.gateway.LEDGER_READ_URL,
    PROVIDER_URL: env.gateway.PROVIDER_URL,
    PROVIDER_SECRET_FILE: env.gateway.PROVIDER_SECRET_FILE,
    RECONCILE_PAUSE_SECONDS: '1',
  }
  return promisify(execFile)(process.execPath, [script], { env: { ...process.env, ...own } }).then(
    ({ stdout }) => ({ code: 0, stdout }),
    ({ code, stdout }: { code: number; stdout: string }) => ({ code, stdout }),
  )
}

/** The output lines for one payment id, or for another subject with this name. */
const linesOf = (stdout: string, id: string) =>
  stdout.split('\n').filter(line => line.startsWith(`DIFFERS  ${id}`))

test('payments that are as they should be are not named', async () => {
  const ids = {
    confirmed: [await pay('deposits', 'card'), await pay('withdrawals', 'bank')],
    failed: [
      await pay('deposits', 'sandbox:fail'),
      await pay('withdrawals', 'sandbox:fail'),
      await pay('withdrawals', 'sandbox:dance'),
    ],
    returned: [await pay('withdrawals', 'sandbox:return')],
  }
  const idOf = ({ body }: Answer) => body.id ?? body.transferId
  for (const [status, answers] of Object.entries(ids))
    for (const answer of answers) await untilStatus(idOf(answer), status)
  const waiting = [
    await pay('deposits', 'sandbox:silent', 'wait=1'),
    await pay('withdrawals', 'sandbox:silent', 'wait=1'),
  ]
  const { stdout } = await reconcile()
  expect(stdout).toContain('The books are right.')
  for (const answer of [...Object.values(ids).flat(), ...waiting])
    expect(linesOf(stdout, idOf(answer))).toEqual([])
})

test('each difference is named with what to do, and the command fails', async () => {
  const confirmed = await pay('deposits', 'card')
  const paid = await pay('withdrawals', 'bank')
  const orphan = await pay('withdrawals', 'bank')
  for (const { body } of [confirmed, paid, orphan]) await untilStatus(body.id, 'confirmed')
  const missing = randomUUID()
  await sql`
    insert into gateway.payments (id, kind, user_id, wallet_id, amount, currency, method, fingerprint, status,
      requested_at, updated_at, expires_at, done_at)
    values (${missing}, 'deposit', ${alice.id}, ${wallet.id}, 700, 'USD', '\\x00', ${Buffer.alloc(16, 7)}, 'confirmed',
      now(), now(), now(), now())`
  await sql`update gateway.payments set status = 'failed', failure_code = 'PAYMENT_FAILED' where id = ${confirmed.body.id}`
  await sql`update gateway.payments set status = 'returned' where id = ${paid.body.id}`
  const [kept] = await sql`delete from gateway.payments where id = ${orphan.body.id} returning *`
  try {
    const { code, stdout } = await reconcile()
    expect(code).toBe(1)
    expect(linesOf(stdout, missing)).toEqual([
      expect.stringContaining('7.00 USD are not in the ledger'),
      expect.stringContaining('the provider does not know it'),
    ])
    expect(linesOf(stdout, confirmed.body.id)).toEqual([
      expect.stringContaining('1.00 USD are in the ledger, which nobody confirmed'),
      expect.stringContaining('the provider says succeeded'),
    ])
    expect(linesOf(stdout, paid.body.id)).toEqual([
      expect.stringContaining('it came back, and the ledger has not reversed it'),
      expect.stringContaining('the provider says succeeded'),
    ])
    expect(linesOf(stdout, orphan.body.id)).toEqual([
      expect.stringContaining('the provider has a withdrawal of 1.00 USD (succeeded) without a payment here'),
      expect.stringContaining('the ledger has a withdrawal of 1.00 USD without a payment'),
    ])
    expect(stdout).toContain('         do: ')
  } finally {
    await sql`delete from gateway.payments where id = ${missing}`
    await sql`update gateway.payments set status = 'confirmed', failure_code = null where id in (${confirmed.body.id}, ${paid.body.id})`
    await sql`insert into gateway.payments ${sql(kept!)}`
  }
  const { stdout } = await reconcile()
  for (const id of [missing, confirmed.body.id, paid.body.id, orphan.body.id])
    expect(linesOf(stdout, id)).toEqual([])
})

test('a deposit that the wallet cannot take waits in suspense: raised, and named until somebody settles it', async () => {
  const pending = await pay('deposits', 'sandbox:silent', 'wait=1')
  const before = await raised()
  // Staff freeze the wallet while the deposit is pending.
  await sql`update ledger.wallets set status = 'frozen', freeze_source = 'staff' where id = ${wallet.id}`
  try {
    const body = JSON.stringify({
      ...{ id: pending.body.id, kind: 'deposit', status: 'succeeded', amount: '1.00', currency: 'USD' },
      providerReference: 'test',
    })
    const { secret } = JSON.parse(
      readFileSync(join(inject('system').dataDir, 'keys', 'provider-secret.json'), 'utf8'),
    )
    const seconds = Math.floor(Date.now() / 1_000)
    const mac = createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')
    const headers = { 'provider-signature': `t=${seconds},v1=${mac}` }
    expect((await ask('POST', '/v1/provider/callbacks', { body, headers })).status).toBe(204)
    await untilStatus(pending.body.id, 'confirmed')
  } finally {
    await sql`update ledger.wallets set status = 'active', freeze_source = null where id = ${wallet.id}`
  }
  // The counter is incremented shortly after the payment is marked done.
  await vi.waitFor(async () => expect(await raised()).toBe(before + 1), { timeout: 10_000, interval: 50 })
  // The owner sees in_suspense, and not a completed deposit.
  const { body: shown } = await alice.ask('GET', `/v1/transfers/${pending.body.id}`)
  expect([shown.status, shown.final, shown.completedAt]).toEqual(['in_suspense', false, null])
  await vi.waitFor(
    async () =>
      expect((await alice.ask('GET', '/v1/notifications')).body.items).toContainEqual(
        expect.objectContaining({ type: 'money_in_suspense', transferId: pending.body.id }),
      ),
    { timeout: 30_000, interval: 100 },
  )
  const { code, stdout } = await reconcile()
  expect(code).toBe(1)
  expect(stdout).toMatch(/DIFFERS {2}suspense:USD:\d\d {2}\d+\.\d\d USD wait for a person/)
})

const raised = async () =>
  Number(
    /^pennywire_gateway_payments_in_suspense_total\{kind="deposit"\} (\d+)$/m.exec(
      await (await fetch(`${inject('system').opsUrls.gateway}/metrics`)).text(),
    )?.[1] ?? 0,
  )
