// `npm run audit:verify` against the topics of a running system: it detects rows forged by an owner of the table.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { bytesOf, genesisOf, hashAfter } from '../services/audit/src/hash-chain.ts'
import { insertRecords, loadRecordsAfter, type StoredRecord } from '../services/audit/src/sql/records.ts'
import { createAuditDatabase } from '../services/audit/src/sql/test-database.ts'
import { makePerson } from './client.ts'

const { superuserUrl } = inject('stack')
const { env, databaseUrls } = inject('system')

let copy: Awaited<ReturnType<typeof createAuditDatabase>>
let sql: Database
/** The hash chain that contains one person's events, and the offset of the first of these. */
let place: { topic: string; epoch: number; partition: number }
let offset: bigint

beforeAll(async () => {
  const { id } = await makePerson()
  const system = openDatabase(databaseUrls.superuser, { applicationName: 'test' })
  const first = await vi.waitFor(
    async () => {
      const [row] = await system<StoredRecord[]>`
        select topic, epoch, partition, record_offset as offset from audit.records
        where topic = 'identity.events' and key = ${Buffer.from(id)} order by record_offset limit 1`
      if (!row) throw new Error('not recorded yet')
      return row
    },
    { timeout: 15_000, interval: 100 },
  )
  place = { topic: first.topic, epoch: first.epoch, partition: first.partition }
  offset = first.offset
  copy = await createAuditDatabase(superuserUrl)
  sql = openDatabase(copy.url(), { applicationName: 'test' })
  const rows = await system<StoredRecord[]>`
    select topic, epoch, partition, record_offset as offset, record_time_ms as "timestampMs", key, headers, value, hash
    from audit.records where topic = 'identity.events'`
  for (let from = 0; from < rows.length; from += 1_000)
    await insertRecords(sql, rows.slice(from, from + 1_000))
  const epochs = await system`select * from audit.epochs where topic = 'identity.events'`
  if (epochs.length > 0) await sql`insert into audit.epochs ${sql(epochs)}`
  await system.end()
})
afterAll(async () => {
  await sql.end()
  await copy.drop()
})

const verify = () =>
  new Promise<{ exitCode: number; lines: string[] }>(resolve =>
    execFile(
      process.execPath,
      [join(import.meta.dirname, '..', 'services', 'audit', 'src', 'verify.ts')],
      { env: { ...env.audit, AUDIT_DATABASE_URL: copy.url('audit') } },
      (error, stdout) => resolve({ exitCode: Number(error?.code ?? 0), lines: stdout.trimEnd().split('\n') }),
    ),
  )

/** Recomputes the chain's hashes from one record on, as a forger does who knows the method. */
const rehash = async () => {
  const [before] = offset === 0n ? [] : await loadRecordsAfter(sql, place, offset - 2n, 1)
  let previous = before?.hash ?? genesisOf(place)
  for (const record of await loadRecordsAfter(sql, place, offset - 1n, 1_000_000)) {
    previous = hashAfter(previous, bytesOf(record))
    await sql`
      update audit.records set hash = ${previous}
      where topic = ${place.topic} and partition = ${place.partition} and record_offset = ${record.offset}`
  }
}

test('A1: what nobody touched is what the topics hold', async () => {
  const { exitCode, lines } = await verify()
  expect(lines.slice(-2)).toEqual([
    expect.stringMatching(/^identity\.events: [1-9][0-9]* records compared with the topic$/),
    expect.stringMatching(/ records, 0 broken$/),
  ])
  expect(exitCode).toBe(0)
})

test.each<[string, (sql: Database) => ReturnType<Database>]>([
  ['value', tx => tx`set value = value || '\\x00'`],
  ['key', tx => tx`set key = '\\x00'`],
  ['headers', tx => tx`set headers = headers || '\\x00'`],
  ['time', tx => tx`set record_time_ms = record_time_ms + 1`],
])('A1: a changed %s is found though all hashes behind it were made to fit', async (_what, change) => {
  const at = { ...place, offset }
  const [original] = await loadRecordsAfter(sql, place, offset - 1n, 1)
  await sql`
    update audit.records ${change(sql)}
    where topic = ${at.topic} and epoch = ${at.epoch} and partition = ${at.partition} and record_offset = ${offset}`
  await rehash()
  const { exitCode, lines } = await verify()
  const { topic, epoch, partition } = place
  expect(lines.at(-1)).toBe(
    `first broken: ${topic} epoch ${epoch} partition ${partition} offset ${offset}: the topic holds another record here`,
  )
  expect(exitCode).toBe(1)
  const { timestampMs, key, headers, value } = original!
  await sql`
    update audit.records set record_time_ms = ${timestampMs}, key = ${key}, headers = ${headers}, value = ${value}
    where topic = ${at.topic} and epoch = ${at.epoch} and partition = ${at.partition} and record_offset = ${offset}`
  await rehash()
})
