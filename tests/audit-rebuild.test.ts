// R1 on a running system with every topic and real traffic: rebuilt, compared, exchanged, and verified afterwards.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { RECORDED_TOPICS } from '@pennywire/contracts/topics.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { expect, inject, test, vi } from 'vitest'
import { makePerson, openWallet, send } from './client.ts'

const { env, databaseUrls, dataDir, opsUrls } = inject('system')

type Run = { exitCode: number; out: string; err: string }
const run = (script: string, args: string[], more: Record<string, string>) =>
  new Promise<Run>(resolve =>
    execFile(
      process.execPath,
      [join(import.meta.dirname, '..', 'services', 'audit', 'src', script), ...args],
      { env: { ...env.audit, ...more } },
      (error, out, err) => resolve({ exitCode: Number(error?.code ?? 0), out, err }),
    ),
  )
const rebuild = (...args: string[]) => run('rebuild.ts', args, { OWNER_DATABASE_URL: databaseUrls.owner })

test('R1: rebuilt from every topic under traffic, the trail equals the live one, and takes its place unnoticed', {
  timeout: 240_000,
}, async () => {
  const sql = openDatabase(databaseUrls.owner, { applicationName: 'test', maxConnections: 1 })
  const [alice, bob] = [await makePerson('Alice Smith'), await makePerson('Bob Brown')]
  await openWallet(alice, 'USD', '1000')
  const to = await openWallet(bob, 'USD')
  let stop = false
  let sent = 0
  const traffic = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (!stop) {
        const { status } = await send(alice, to, '0.01')
        expect([200, 201, 202]).toContain(status)
        sent++
      }
    }),
  )
  try {
    const compared = await rebuild()
    expect(compared.out + compared.err).toContain(' rows are equal to the live trail, 0 are not\n')
    expect(compared.out).toMatch(/^[1-9]\d* rows of the index are right, 0 are not/m)
    expect(compared.exitCode).toBe(0)
    const swapped = await rebuild('--swap', '--json')
    const result = JSON.parse(swapped.out)
    expect(result).toMatchObject({ ok: true, comparison: { different: 0 }, contradiction: null })
    expect(result.index).toMatchObject({ different: 0, first: null })
    expect(result.replaced).toMatch(/^audit\.records_replaced_\d+$/)
    const sentBefore = sent
    await vi.waitFor(() => expect(sent).toBeGreaterThan(sentBefore + 20), { timeout: 30_000 })
    await sql`drop table ${sql(result.replaced)}`
  } finally {
    stop = true
    await traffic
  }
  expect((await fetch(`${opsUrls.audit}/readyz`)).status).toBe(200)
  const rows = await sql<Array<{ topic: string }>>`select distinct topic from audit.records`
  await sql.end()
  const idle = ['ledger.dead-letters', 'notifier.dead-letters']
  expect(rows.map(({ topic }) => topic)).toEqual(
    expect.arrayContaining(RECORDED_TOPICS.filter(topic => !idle.includes(topic))),
  )
  const verified = await run(
    'verify.ts',
    [
      ...['--public-key', join(dataDir, 'keys', 'checkpoint-public.json')],
      ...['--checkpoint-file', join(dataDir, 'audit', 'checkpoints-1.txt')],
    ],
    { AUDIT_DATABASE_URL: databaseUrls.audit },
  )
  expect(verified.out).not.toContain('first broken')
  expect(verified.exitCode).toBe(0)
})
