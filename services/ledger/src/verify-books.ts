// Verifies the books: `npm run verify-books`. Exits with 1 and names the first broken row if a promise is broken. With
// KAFKA_BROKERS it reads ledger.events too and compares every record with the journal.
import { createKafkaClient, type KafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import { headerOf } from '@pennywire/kafka/record.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { beginCommand, EXIT, endCommand } from '@pennywire/runtime/command.ts'
import { kafkaSettings, loadConfig } from '@pennywire/runtime/config.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { showProgress } from '@pennywire/runtime/progress.ts'
import { BOOKS_DEADLINE_MS, checkBooks } from './check-books.ts'
import type { Broken } from './sql/broken.ts'
import { countUnpublished, readJournalBytes, readPublished } from './sql/verify-books.ts'

const { values: options } = beginCommand(
  `usage: npm run verify-books -- [--json]

Proves the books: that per currency all balances sum to zero, that each balance is the sum of its entries, that nothing
decided is missing, and, with KAFKA_BROKERS, that ledger.events is the journal, byte for byte. It changes nothing and may run
beside a running system.

  --json  Writes one JSON document to stdout.
  --help  Writes this.

Settings: DATABASE_URL, as the ledger's role; KAFKA_BROKERS (and KAFKA_TLS, KAFKA_SASL_…) to compare with the topic.
Exit codes: 0 the books are right, 1 they are not (the first broken row of each promise is named), 2 wrong options or
settings, 3 they could not be checked.
Example: npm run verify-books`,
  { options: { json: { type: 'boolean', default: false } } },
)
const print = (line: string) => {
  if (!options.json) console.log(line)
}

const config = loadConfig(
  { DATABASE_URL: databaseUrl, ...kafkaSettings, KAFKA_BROKERS: kafkaSettings.KAFKA_BROKERS.optional() },
  process.env,
)

const results: { promise: string; what: string; broken: string | null }[] = []
const report = (promise: string, what: string, broken: Broken): boolean => {
  results.push({ promise, what, broken: broken ?? null })
  print(`${promise}  ${what.padEnd(48)} ${broken === undefined ? 'ok' : `BROKEN  ${broken}`}`)
  return broken === undefined
}

const progressOf = (what: string, total: number) =>
  showProgress({ what, total, clock: systemClock, stream: process.stderr })

/**
 * O1, O2: every record of ledger.events is in the journal, byte for byte; every event marked as published is in the
 * topic; a partition's new events come in the order of their seq, all others are repeats.
 */
const compareTopic = async (
  sql: Database,
  kafka: KafkaClient,
): Promise<{ broken: Broken; records: number }> => {
  // Read the marks first: all events up to them must be in the topic already.
  const published = await sql.begin(tx => readPublished(tx))
  const seen = new Map<number, bigint>()
  let records = 0
  let broken: Broken
  const total = published.reduce((sum, { publishedThrough }) => sum + Number(publishedThrough), 0)
  const progress = progressOf('events of the topic', total)
  await readTopic({
    client: kafka,
    logger: createLogger('verify-books', { level: 'error', instance: 'verify-books' }),
    topic: 'ledger.events',
    handle: async batch => {
      records += batch.length
      progress.add(batch.length)
      for (const [partition, all] of Map.groupBy(batch, record => record.partition)) {
        const seqs = all.map(record => BigInt(headerOf(record, 'seq') ?? '0'))
        const rows = await sql.begin(tx => readJournalBytes(tx, partition, seqs))
        const journal = new Map(rows.map(row => [row.seq, row.bytes]))
        for (const [index, record] of all.entries()) {
          const seq = seqs[index]!
          const reached = seen.get(partition) ?? 0n
          const place = `partition=${partition} offset=${record.offset} seq=${seq}`
          if (!journal.get(seq)?.equals(record.value ?? Buffer.alloc(0))) {
            broken ??= `a record of ledger.events is not the journal's: ${place}`
          } else if (seq > reached + 1n) {
            broken ??= `a record of ledger.events comes before those decided earlier: ${place}, after seq=${reached}`
          }
          if (seq > reached) seen.set(partition, seq)
        }
      }
    },
  })
  progress.end()
  for (const { partition, publishedThrough } of published) {
    const reached = seen.get(partition) ?? 0n
    if (reached < publishedThrough) {
      broken ??= `published events are missing in ledger.events: partition=${partition} published=${publishedThrough} seen=${reached}`
    }
  }
  return { broken, records }
}

const sql = openDatabase(config.DATABASE_URL, {
  applicationName: 'verify-books',
  deadlineMs: BOOKS_DEADLINE_MS,
  maxConnections: 2,
})
let intact = true
const progress = progressOf('percent of the books', 100)
let percent = 0
const { checks, rows } = await checkBooks({
  sql,
  clock: systemClock,
  afterRange: async share => {
    const now = Math.floor(share * 100)
    progress.add(now - percent)
    percent = now
  },
})
progress.end()
for (const { promise, what, broken } of checks) intact = report(promise, what, broken) && intact
const [wallets, transfers, entries, events] = ['wallets', 'transfers', 'entries', 'journal'].map(
  table => rows.get(table) ?? 0,
)
const unpublished = await sql.begin(tx => countUnpublished(tx))
print(
  `${wallets} wallets, ${transfers} transfers, ${entries} entries, ${events} events, ${unpublished} of them not yet published`,
)
if (config.KAFKA_BROKERS) {
  const kafka = createKafkaClient({
    connection: kafkaConnectionOf(config),
    clientId: 'verify-books',
    logger: createLogger('verify-books', { level: 'error', instance: 'verify-books' }),
  })
  const { broken, records } = await compareTopic(sql, kafka)
  intact = report('O1', `the topic is the journal (${records} records)`, broken) && intact
}
await sql.end()
print(intact ? 'The books are right.' : 'The books are NOT right.')
if (options.json) {
  const counts = { wallets, transfers, entries, events, unpublished }
  const text = JSON.stringify({ ok: intact, results, ...counts }, (_name, value) =>
    typeof value === 'bigint' ? Number(value) : value,
  )
  console.log(text)
}
endCommand(intact ? EXIT.ok : EXIT.wrong)
