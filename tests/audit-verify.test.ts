// `npm run audit:verify` against the topics of a running system: it detects rows forged by an owner of the table.
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { bytesOf, genesisOf, hashAfter } from '@pennywire/kafka/hash-chain.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { insertRecords, loadRecordsAfter, type StoredRecord } from '../services/audit/src/sql/records.ts'
import { createAuditDatabase } from '../services/audit/src/sql/test-database.ts'
import { makePerson, openWallet } from './client.ts'

const { superuserUrl } = inject('stack')
const { dataDir, env, databaseUrls } = inject('system')

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

/** The copy is a part of the trail: the checkpoints state the whole. */
const verify = (args = ['--no-checkpoints'], url = copy.url('audit')) =>
  new Promise<{ exitCode: number; lines: string[] }>(resolve =>
    execFile(
      process.execPath,
      [join(import.meta.dirname, '..', 'services', 'audit', 'src', 'verify.ts'), ...args],
      { env: { ...env.audit, AUDIT_DATABASE_URL: url } },
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

test('A1: the running system signs checkpoints, which its public key verifies in the database, topic and file', async () => {
  await vi.waitFor(
    async () => {
      const { exitCode, lines } = await verify(
        [
          ...['--public-key', join(dataDir, 'keys', 'checkpoint-public.json')],
          ...['--checkpoint-file', join(dataDir, 'audit', 'checkpoints-1.txt')],
        ],
        databaseUrls.audit,
      )
      const text = lines.join('\n')
      for (const source of ['the database', 'the topic', 'the file'])
        expect(text).toMatch(
          new RegExp(`^checkpoints in ${source}: [1-9]\\d*, the last is [1-9]\\d* of `, 'm'),
        )
      expect(text).not.toContain('BROKEN')
      expect(text).not.toContain('NOT checked')
      expect(exitCode).toBe(0)
    },
    { timeout: 60_000, interval: 1_000 },
  )
}, 90_000)

test('the id of a request stands in the headers of the commands and events that it causes', async () => {
  const person = await makePerson()
  const requestId = `request-${randomUUID()}`
  const headers = { 'x-request-id': requestId }
  await openWallet(person, 'USD')
  const opened = await person.ask('POST', '/v1/wallets', { currency: 'EUR' }, headers)
  expect(opened.status).toBe(201)
  const renamed = await person.ask('PATCH', '/v1/users/me', { fullName: 'Another Name' }, headers)
  expect(renamed.status).toBe(200)
  const system = openDatabase(databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
  const recordedHeaders = `\0\0\0\x0arequest_id\0\0\0${String.fromCharCode(requestId.length)}${requestId}`
  await vi.waitFor(
    async () => {
      const rows = await system<Array<{ topic: string }>>`
        select topic from audit.records
        where position(${Buffer.from(recordedHeaders, 'latin1')} in headers) > 0`
      expect(new Set(rows.map(({ topic }) => topic))).toEqual(
        new Set(['ledger.commands', 'ledger.events', 'identity.events']),
      )
    },
    { timeout: 15_000, interval: 100 },
  )
  await system.end()
})
